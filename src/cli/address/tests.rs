//! What may be written as an address, and what is said of the rest.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn an_address_to_listen_on_is_an_address_or_a_name_of_this_machine() {
    for text in ["127.0.0.1:6101", "0.0.0.0:0", "[::]:80", "[::1]:65535"] {
        assert_eq!(listen(text), Ok(Listen::Address(address(text))));
    }
    assert_eq!(listen(":8080"), Ok(Listen::Address(address("[::]:8080"))), "both families");
    assert_eq!(listen("localhost:0"), Ok(Listen::Name("localhost".into(), 0)));
    for (text, advice) in [
        ("*:8080", "127.0.0.1:8080, or :8080"),
        ("[::1:8080", "127.0.0.1:8080, or :8080"),
        ("127.0.0.1", "127.0.0.1:6101"),
        ("8080", "127.0.0.1:8080"),
        ("::1", "[::1]:6101"),
        ("127.0.0.1:http", "0 to 65535"),
        ("127.0.0.1:+80", "0 to 65535"),
        ("127.0.0.1:65536", "0 to 65535"),
        ("127.0.0.1:", "0 to 65535"),
        ("a b:80", "127.0.0.1:80, or :80"),
        ("", "127.0.0.1:6101"),
    ] {
        let complaint = listen(text).unwrap_err();
        assert!(complaint.contains(advice), "{text}: {complaint}");
    }
}

/// `lo` is there everywhere, and has index 1 in every network namespace of Linux.
#[cfg(target_os = "linux")]
#[test]
fn the_scope_of_a_link_local_address_may_be_an_interface() {
    let expected = address("[fe80::1%1]:80");
    for text in ["[fe80::1%lo]:80", "[fe80::1%1]:80"] {
        assert_eq!(listen(text), Ok(Listen::Address(expected)), "{text}");
        assert_eq!(target(text), Ok(Target::Address(expected)), "{text}");
    }
    for (text, words) in [
        ("[fe80::1%no-such-one]:80", "no network interface \"no-such-one\""),
        ("[fe80::1%]:80", "no network interface"),
        ("[fe80::1]:80", "needs its interface, such as [fe80::1%eth0]:80"),
    ] {
        for message in [listen(text).unwrap_err(), target(text).unwrap_err()] {
            assert!(message.contains(words), "{text}: {message}");
        }
    }
}

#[test]
fn a_target_is_an_address_or_a_name_with_a_port_or_the_built_in_server() {
    assert_eq!(target("127.0.0.1:80"), Ok(Target::Address(address("127.0.0.1:80"))));
    assert_eq!(target("[::1]:80"), Ok(Target::Address(address("[::1]:80"))));
    assert_eq!(target("db.example:5432"), Ok(Target::Name("db.example".into(), 5432)));
    assert_eq!((target("echo:"), target("echo:7")), (Ok(Target::Echo), Ok(Target::Name("echo".into(), 7))));
    for (text, advice) in [
        ("127.0.0.1:0", "1 to 65535"),
        ("localhost:0", "1 to 65535"),
        ("localhost", "localhost:8888"),
        ("8888", "127.0.0.1:8888"),
        (":8888", "127.0.0.1:8888"),
        ("::1", "[::1]:8888"),
        ("localhost:http", "1 to 65535"),
        ("localhost:99999", "1 to 65535"),
        ("http://localhost:80/index.html", "write localhost:80"),
        ("127.0.0.1:+80", "1 to 65535"),
        ("a\nb:80", "localhost:80"),
        ("a b:80", "localhost:80"),
        ("[::1:80", "[::1]:80"),
        ("", "127.0.0.1:8888"),
    ] {
        let complaint = target(text).unwrap_err();
        assert!(complaint.contains(advice), "{text}: {complaint}");
    }
}

#[test]
fn a_unix_socket_is_a_path_or_an_abstract_name_without_a_port() {
    for text in ["unix:/run/app.sock", "unix:./app", "unix:../app", "unix:@app", "unix:///run/app", "unix:/a:b"] {
        let address: Address = text.parse().unwrap();
        assert_eq!(listen(text), Ok(Listen::Unix(address.clone())), "{text}");
        assert_eq!(target(text), Ok(Target::Unix(address)), "{text}");
    }
    for (text, advice) in [
        ("unix:", "write unix:/run/app.sock or unix:@name"),
        ("unix:@", "write unix:/run/app.sock or unix:@name"),
        ("unix:app.sock", "write unix:/app.sock, unix:./app.sock"),
        ("unix:80", "write unix:/80"),
        ("unix:/run/app.sock:80", "leave out :80 and write unix:/run/app.sock"),
        ("unix:/run/app.sock:", "leave out : and write unix:/run/app.sock"),
        (&format!("unix:/{}", "x".repeat(107)), "choose a shorter one"),
    ] {
        for complaint in [listen(text).unwrap_err(), target(text).unwrap_err()] {
            assert!(complaint.contains(advice), "{text}: {complaint}");
        }
    }
    let list = listeners("unix:/run/a, :80-81,unix:@b").unwrap();
    let each: Vec<_> = list.iter().flat_map(Ports::each).map(|(_, written)| written).collect();
    assert_eq!(each, ["unix:/run/a", ":80", ":81", "unix:@b"]);
    assert_eq!(list.iter().map(Ports::written).collect::<Vec<_>>(), ["unix:/run/a", ":80-81", "unix:@b"]);
    assert_eq!(list[0].with_port(9), list[0].with_port(0));
}

#[test]
fn a_list_has_commas_and_a_range_has_each_of_its_ports() {
    let list = listeners(":7000-7002, [::1]:80,localhost:81-81").unwrap();
    let each: Vec<_> = list.iter().flat_map(|one| one.each().map(|(port, name)| (one.with_port(port), name))).collect();
    let everywhere = |port| Listen::Address((Ipv6Addr::UNSPECIFIED, port).into());
    let expected = [
        (everywhere(7000), ":7000"),
        (everywhere(7001), ":7001"),
        (everywhere(7002), ":7002"),
        (Listen::Address(address("[::1]:80")), "[::1]:80"),
        (Listen::Name("localhost".into(), 81), "localhost:81"),
    ];
    assert_eq!(each, expected.map(|(listen, name)| (listen, name.to_owned())));
    let written: Vec<_> = list.iter().map(Ports::written).collect();
    assert_eq!(written, [":7000-7002", "[::1]:80", "localhost:81"]);
    let hosts = upstream("my-host:7000-7001,echo:,10.0.0.1:7").unwrap();
    assert_eq!(hosts.iter().map(Ports::written).collect::<Vec<_>>(), ["my-host:7000-7001", "echo:", "10.0.0.1:7"]);
    assert_eq!(hosts[0].with_port(7001), Target::Name("my-host".into(), 7001));
    for text in [":7009-7000", ":0-3", ":70-", ":70-80-90", ":70-65536", ":7000 - 7009", ":70-http"] {
        let complaint = listeners(text).unwrap_err();
        assert!(complaint.contains("1 to 65535, the lower one first, such as 7000-7009"), "{text}: {complaint}");
    }
    for text in ["", ",", "127.0.0.1:80,", ",127.0.0.1:80"] {
        assert!(listeners(text).unwrap_err().contains("the port is missing"), "{text}");
        assert!(upstream(text).unwrap_err().contains("the port is missing"), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn no_text_makes_a_parser_panic(text in any::<String>(), likely in "[0-9a-zA-Zµ.:+,/\\[\\] -]{0,24}") {
        for text in [text, likely] {
            let (listeners, upstream) = (listeners(&text), upstream(&text));
            let counts = listeners.iter().flatten().map(Ports::count).chain(upstream.iter().flatten().map(Ports::count));
            prop_assert!(counts.into_iter().all(|count| (1..=65535).contains(&count)));
        }
    }

    #[test]
    fn an_address_that_was_printed_is_read_back(ip in any::<IpAddr>(), port in 1_u16..) {
        // A link-local address needs a scope.
        prop_assume!(!matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
        let address = SocketAddr::new(ip, port);
        prop_assert_eq!(listen(&address.to_string()), Ok(Listen::Address(address)));
        prop_assert_eq!(target(&address.to_string()), Ok(Target::Address(address)));
    }

    #[test]
    fn a_name_that_was_printed_is_read_back(name in "[a-z][a-z0-9.-]{0,40}", port in 1_u16..) {
        prop_assert_eq!(target(&format!("{name}:{port}")), Ok(Target::Name(name.clone(), port)));
        prop_assert_eq!(listen(&format!("{name}:{port}")), Ok(Listen::Name(name, port)));
    }
}
