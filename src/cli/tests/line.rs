//! Which --to belongs to which --from.

use proptest::prelude::*;
use std::net::SocketAddr;

use tproxy::Config;

use super::{config_of, line, parsed};
use crate::control::Inheritance;

/// Each route, and where it leads.
fn led(config: &Config) -> Vec<(String, Vec<String>)> {
    let to = |route: &tproxy::Route| route.to.iter().map(ToString::to_string).collect();
    config.routes.iter().map(|route| (route.name.clone(), to(route))).collect()
}

fn expected<const N: usize>(rows: [(&str, &[&str]); N]) -> Vec<(String, Vec<String>)> {
    rows.map(|(name, to)| (name.to_owned(), to.iter().map(ToString::to_string).collect())).to_vec()
}

#[test]
fn with_at_most_one_from_every_to_belongs_to_it_wherever_it_stands() {
    for words in [
        "-f 127.0.0.1:80 -t a.test:1 -t [::1]:2,c.test:3",
        "-t a.test:1 -f 127.0.0.1:80 -t [::1]:2 -t c.test:3",
        "-t a.test:1,[::1]:2,c.test:3 -f 127.0.0.1:80",
        "--to=a.test:1 --from=127.0.0.1:80 -t[::1]:2 --to c.test:3",
    ] {
        assert_eq!(led(&line(words)), expected([("127.0.0.1:80", &["a.test:1", "[::1]:2", "c.test:3"])]), "{words}");
    }
    assert_eq!(led(&line("-t a.test:1 -t b.test:2")), expected([("127.0.0.1:6101", &["a.test:1", "b.test:2"])]));
}

#[test]
fn with_several_each_to_belongs_to_the_last_from_before_it() {
    let config = line("-f :5432 -t db1:5432,db2:5432 -t db3:5432 -q -f :6379 --to=cache:6379 -f[::1]:0 -techo.test:7");
    let rows: [(&str, &[&str]); 3] =
        [(":5432", &["db1:5432", "db2:5432", "db3:5432"]), (":6379", &["cache:6379"]), ("[::1]:0", &["echo.test:7"])];
    assert_eq!(led(&config), expected(rows));
    assert_eq!(config.routes[0].from, "[::]:5432".parse::<SocketAddr>().unwrap());
    assert!(!config.name_routes);
}

#[test]
fn a_to_or_a_from_that_stands_alone_is_named() {
    for (words, named) in [
        ("-t a:1 -f :80 -t b:2 -f :81 -t c:3", "--to a:1 stands before the first --from"),
        ("-t a:1,b:2 -f :80 -f :81 -t c:3", "--to a:1,b:2 stands before the first --from"),
        ("-f :80 -f :81 -t c:3", "--to <ADDR> is required: write where --from :80 leads"),
        ("-f :80-89 -t c:3 -f :90,:91", "--to <ADDR> is required: write where --from :90,:91 leads"),
        ("-f :80", "--to <ADDR> is required: write where --from :80 leads"),
        ("", "--to <ADDR> is required: write where to connect to"),
    ] {
        let complaint = parsed(words).unwrap_err();
        assert!(complaint.contains(named) && !complaint.contains('\n'), "{words}: {complaint}");
    }
}

#[test]
fn a_listener_that_is_written_twice_is_named() {
    for (words, named) in [
        ("-f :80 -t a:1 -f 127.0.0.1:80 -t b:2", "--from 127.0.0.1:80 is taken by :80 before it"),
        ("-f [::1]:80,[::1]:80 -t a:1", "--from [::1]:80 is written twice; leave one out"),
    ] {
        let complaint = parsed(words).unwrap_err();
        assert!(complaint.contains(named), "{words}: {complaint}");
    }
}

/// Some machines know localhost by one family only.
#[test]
fn a_name_to_listen_on_is_each_of_its_addresses_that_is_ours() {
    use std::net::{SocketAddr, ToSocketAddrs as _};
    let config = line("-f localhost:7000-7001 -t a.test:7000-7001");
    let known: Vec<SocketAddr> = ("localhost", 7000).to_socket_addrs().unwrap().collect();
    let ours = known.into_iter().filter(|address| tproxy::net::mio::is_ours(*address));
    let ours: std::collections::BTreeSet<_> = ours.map(|address| address.to_string()).collect();
    let first: Vec<_> = config.routes.iter().filter(|route| route.name == "localhost:7000").collect();
    assert_eq!(first.iter().map(|route| route.from.to_string()).collect::<std::collections::BTreeSet<_>>(), ours);
    assert!(first.iter().all(|route| route.to[0].to_string() == "a.test:7000"));
    assert_eq!(config.routes.len(), 2 * ours.len(), "{config:?}");
    assert!(config.routes.iter().all(|route| route.name.starts_with("localhost:700")), "{config:?}");
    // It may be taken by an address that was written.
    let options = parsed("-f 127.0.0.1:80 -t a:1 -f localhost:80 -t b:1").unwrap();
    let problem =
        options.plan.config(&crate::control::Interrupt::by(&[]).unwrap(), &Inheritance::default()).unwrap_err();
    assert!(matches!(problem, crate::cli::Problem::Usage(_)), "{problem}");
    assert!(problem.to_string().contains("--from localhost:80 is taken by 127.0.0.1:80 before it"), "{problem}");
}

#[test]
fn a_name_that_is_none_of_ours_cannot_be_listened_on() {
    let options = parsed("-f no-such-host.invalid:80 -t a:1").unwrap();
    let problem =
        options.plan.config(&crate::control::Interrupt::by(&[]).unwrap(), &Inheritance::default()).unwrap_err();
    assert!(matches!(problem, crate::cli::Problem::Listen(_)), "{problem}");
    assert!(problem.to_string().contains("--from no-such-host.invalid:80: cannot listen there: "), "{problem}");
}

#[test]
fn the_built_in_server_is_one_upstream_among_others() {
    let options = parsed("-f 127.0.0.1:80-81 -t echo:,10.0.0.1:7").unwrap();
    let config = config_of(&options);
    let [first, second] = &config.routes[..] else { panic!("{config:?}") };
    assert_eq!(first.to, second.to);
    assert!(first.to[0].to_string().starts_with("127.0.0.1:") && first.to[0].port() != Some(0), "{config:?}");
    assert_eq!(first.to[1].to_string(), "10.0.0.1:7");
    assert_eq!(config_of(&options), config, "it is started once");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn no_words_make_the_command_line_panic(words in "((-[ftvqh]|--(to|from|check|balance|splice|print|max-sessions)|a:1|:80|:7-9|echo:|[!-~é]{1,12})[ =]){0,12}") {
        // No file of this machine is read.
        prop_assume!(!words.contains("-c") && !words.contains("--conf"));
        let _ = parsed(&words);
    }
}
