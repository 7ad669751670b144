//! --accept-proxy and --proxy-from, which need each other.

use tproxy::Route;

use super::{config_of, line, parsed, parsed_with};

const ROUTE: &str = "[[route]]\nfrom = \"127.0.0.1:6101\"\nto = \"127.0.0.1:80\"\n";

fn seen(routes: &[Route]) -> Vec<(bool, String)> {
    routes.iter().map(|route| (route.accept_proxy, route.proxy_from.to_string())).collect()
}

fn file(text: &str) -> Vec<(bool, String)> {
    seen(&config_of(&parsed_with(text, "").unwrap()).routes)
}

#[test]
fn they_are_the_same_on_the_command_line_and_in_a_file() {
    let expected = [(true, "10.0.0.0/8,unix".to_owned())];
    for words in ["--proxy-from 10.0.0.0/8,unix", "--proxy-from unix --proxy-from 10.0.0.0/8"] {
        assert_eq!(seen(&line(&format!("-t 127.0.0.1:80 --accept-proxy {words}")).routes), expected, "{words}");
    }
    let keys = "accept-proxy = true\nproxy-from = [\"10.0.0.0/8\", \"unix\"]\n";
    assert_eq!(file(&format!("{ROUTE}{keys}")), expected);
    assert_eq!(file(&format!("{keys}{ROUTE}")), expected);
}

#[test]
fn the_proxies_may_be_written_for_all_routes_and_count_where_a_header_is_accepted() {
    let (second, third) = (ROUTE.replace("6101", "6102"), ROUTE.replace("6101", "6103"));
    let text = format!(
        "proxy-from = \"10.0.0.1\"\n{ROUTE}accept-proxy = true\n{second}\n{third}accept-proxy = true\nproxy-from = \"unix\"\n"
    );
    let expected =
        [(true, "10.0.0.1/32"), (false, ""), (true, "unix")].map(|(accepts, from)| (accepts, from.to_owned()));
    assert_eq!(file(&text), expected);
    let text = format!("accept-proxy = true\nproxy-from = \"10.0.0.1\"\n{ROUTE}accept-proxy = false\n{second}");
    assert_eq!(file(&text), [(false, String::new()), (true, "10.0.0.1/32".to_owned())]);
}

#[test]
fn one_without_the_other_is_answered_with_what_is_missing() {
    for (words, expected) in [
        ("--accept-proxy", "--accept-proxy needs --proxy-from: write the networks of the proxies"),
        ("--proxy-from 10.0.0.0/8", "--proxy-from is of no use without --accept-proxy: add that, or leave this out"),
        ("--accept-proxy --proxy-from haproxy", "such as 10.0.0.0/8, or unix"),
        ("--accept-proxy --proxy-from 10.0.0.1/8", "write 10.0.0.0/8 for the network"),
        ("--send-proxy v3", "invalid value 'v3' for '--send-proxy <VERSION>' [possible values: off, v1, v2]"),
    ] {
        let complaint = parsed(&format!("-t 127.0.0.1:80 {words}")).unwrap_err();
        assert!(complaint.contains(expected), "{words}: {complaint}");
    }
    for (text, expected) in [
        (format!("{ROUTE}accept-proxy = true\n"), "FILE:4:1: accept-proxy: needs proxy-from: write the networks"),
        (format!("accept-proxy = true\n{ROUTE}"), "FILE:2:1: accept-proxy: needs proxy-from: write the networks"),
        (format!("{ROUTE}proxy-from = \"unix\"\n"), "FILE:4:1: proxy-from: is of no use without accept-proxy"),
        (format!("proxy-from = \"unix\"\n{ROUTE}"), "FILE:1:1: proxy-from: is of no use: no route has accept-proxy"),
        (format!("{ROUTE}accept-proxy = \"yes\"\n"), "FILE:4:16: accept-proxy = \"yes\": write true or false"),
        (format!("{ROUTE}send-proxy = 2\n"), "FILE:4:14: send-proxy = 2: write \"v1\", \"v2\" or \"off\""),
    ] {
        let complaint = parsed_with(&text, "").unwrap_err();
        assert!(complaint.contains(expected), "{text}: {complaint}");
    }
}
