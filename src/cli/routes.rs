//! From what was written to routes: each listener of a list and each port of a range becomes one.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};

use tproxy::net::Address;
use tproxy::{Config, Route};

use super::address::{Listen, Listeners, Ports, Target, Upstream};
use super::complaint::{Complaint, Place};
use super::value::value;

value! {
    /// What the log calls a route.
    RouteName(String) = route_name, "a name, such as \"web\""
}

/// A route as it was written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) name: Option<(RouteName, Place)>,
    pub(super) from: Vec<(Listeners, Place)>,
    pub(super) to: Vec<(Upstream, Place)>,
    /// Its settings. Its name, listener and upstream are those of [`blank`].
    pub(super) settings: Route,
}

/// A route whose names have not been looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) from: Listen,
    /// Each with the place where it was written.
    pub(super) to: Vec<(Target, Place)>,
    /// Its name and its settings.
    pub(super) route: Route,
    /// Which of the routes that were written it comes from.
    pub(super) table: usize,
    /// Where the listener was written.
    pub(super) place: Place,
    /// The listener as it was written, with its one port.
    pub(super) written: String,
}

/// The most listeners.
pub(super) const LISTENERS_MAX: usize = *Config::ROUTES.end();

/// The most hosts of an upstream.
const HOSTS_MAX: usize = *Route::HOSTS.end();

/// A route with nothing but the library's default settings.
pub(super) fn blank() -> Route {
    Route::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 6101)), [] as [SocketAddr; 0])
}

/// What is wrong with the settings of a route, beyond each by itself: the option or key, and a text. Dashes stand before a
/// name on the command line, and nothing in a file.
pub(super) fn wrong(route: &Route, dashes: &str) -> Option<(&'static str, String)> {
    let sources = Route::check_sources(&route.source).map_err(|text| ("source", text));
    let lists = sources.and_then(|()| route.check_networks());
    lists.err().or_else(|| unpaired(route, dashes))
}

/// What is wrong with two settings that need each other.
fn unpaired(route: &Route, dashes: &str) -> Option<(&'static str, String)> {
    match (route.accept_proxy, route.proxy_from.is_empty()) {
        (true, true) => Some((
            "accept-proxy",
            format!(
                "needs {dashes}proxy-from: write the networks of the proxies that are believed, such as 10.0.0.0/8"
            ),
        )),
        (false, false) => {
            Some(("proxy-from", format!("is of no use without {dashes}accept-proxy: add that, or leave this out")))
        }
        (true, false) | (false, true) => None,
    }
}

/// The routes, one for each listener, and all that is wrong with them.
pub(super) fn drafts(written: &[Written]) -> (Vec<Draft>, Vec<Complaint>) {
    let (mut drafts, mut complaints) = (Vec::new(), Vec::new());
    for (index, route) in written.iter().enumerate() {
        match route.drafts(index, LISTENERS_MAX - drafts.len()) {
            Ok(more) => drafts.extend(more),
            Err(complaint) => complaints.push(complaint),
        }
    }
    complaints.extend(doubled(&drafts));
    complaints.extend(doubled_names(written, &drafts));
    (drafts, complaints)
}

impl Written {
    fn drafts(&self, table: usize, most: usize) -> Result<Vec<Draft>, Complaint> {
        let from = || self.from.iter().flat_map(|(list, place)| list.0.iter().map(|one| (one, *place)));
        let to = || self.to.iter().flat_map(|(list, place)| list.0.iter().map(|one| (one, *place)));
        if let Some((_, place)) = to().nth(HOSTS_MAX) {
            let text = format!("names {} hosts; an upstream may have 1 to {HOSTS_MAX}", to().count());
            return Err(Complaint { key: "to", place, text });
        }
        let is_range = from().any(|(listener, _)| listener.count() > 1);
        let (mut drafts, mut left) = (Vec::new(), most);
        for (listener, place) in from() {
            let Some(rest) = left.checked_sub(listener.count()) else {
                let text =
                    format!("{} makes more than {LISTENERS_MAX} listeners, which is the most", listener.written());
                return Err(Complaint { key: "from", place, text });
            };
            left = rest;
            if let Some((host, place)) = to().find(|(host, _)| ![1, listener.count()].contains(&host.count())) {
                return Err(Complaint { key: "to", place, text: unequal(host, listener) });
            }
            for (nth, (port, written)) in listener.each().enumerate() {
                let mut route = self.settings.clone();
                route.name = match &self.name {
                    Some((name, _)) if is_range && !listener.has_no_port() => format!("{}-{port}", name.0),
                    Some((name, _)) => name.0.clone(),
                    None => written.clone(),
                };
                let to: Vec<_> = to().map(|(host, place)| (host.with_port(host.nth_port(nth)), place)).collect();
                if let Some((text, place)) = to.iter().find_map(|(to, place)| Some((misses(&route, to)?, *place))) {
                    return Err(Complaint { key: "to", place, text });
                }
                drafts.push(Draft { from: listener.with_port(port), to, route, table, place, written });
            }
        }
        Ok(drafts)
    }
}

/// Why no source address of the route can connect there, if that is so.
fn misses(route: &Route, to: &Target) -> Option<String> {
    match to {
        Target::Address(address) => route.source_misses(*address),
        Target::Echo => route.source_misses((Ipv4Addr::LOCALHOST, 7).into()),
        Target::Name(..) | Target::Unix(_) => None,
    }
}

fn unequal(host: &Ports<Target>, listener: &Ports<Listen>) -> String {
    let (host_ports, listener_ports) = (host.count(), listener.count());
    let ports = if listener_ports == 1 { "port" } else { "ports" };
    let (host, listener) = (host.written(), listener.written());
    format!(
        "{host} has {host_ports} ports and {listener} has {listener_ports} {ports}; write ranges of equal length, or one port to connect to"
    )
}

/// Listeners whose address is taken by one before them.
pub(super) fn doubled(drafts: &[Draft]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        if let Some(before) = drafts[..index].iter().find(|before| overlap(&before.from, &draft.from)) {
            let text = match (&draft.written, &before.written) {
                (second, first) if second == first => format!("{second} is written twice; leave one out"),
                (second, first) => format!("{second} is taken by {first} before it; choose another address or port"),
            };
            complaints.push(Complaint { key: "from", place: draft.place, text });
        }
    }
    complaints
}

/// Names that are another route's, one complaint for each route. Those of a range end in a port, and count too.
fn doubled_names(written: &[Written], drafts: &[Draft]) -> Vec<Complaint> {
    let mut known = HashMap::new();
    let mut complaints: BTreeMap<usize, Complaint> = BTreeMap::new();
    for draft in drafts {
        let first = *known.entry(&draft.route.name).or_insert(draft.table);
        if let Some((_, place)) = &written[draft.table].name
            && first != draft.table
        {
            let text = format!("{} is the name of another route before; choose another", draft.route.name);
            complaints.entry(draft.table).or_insert(Complaint { key: "name", place: *place, text });
        }
    }
    complaints.into_values().collect()
}

/// Can these two not be listened on at once? Names are compared as they were written.
pub(super) fn overlap(one: &Listen, other: &Listen) -> bool {
    match (one, other) {
        (Listen::Address(one), Listen::Address(other)) => Address::from(*one).overlaps(&Address::from(*other)),
        (Listen::Name(one, port), Listen::Name(other, other_port)) => {
            *port != 0 && port == other_port && one.eq_ignore_ascii_case(other)
        }
        (Listen::Unix(one), Listen::Unix(other)) => one.overlaps(other),
        (Listen::Inherited(one), Listen::Inherited(other)) => one == other,
        (Listen::Address(_) | Listen::Name(..) | Listen::Unix(_) | Listen::Inherited(_), _) => false,
    }
}

fn route_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("write 1 to 64 letters, digits, dots, underscores or hyphens".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row is a name or nothing, --from, and --to.
    fn of(rows: &[(&str, &str, &str)]) -> (Vec<Draft>, Vec<String>) {
        let written = |(place, (name, from, to)): (usize, &(&str, &str, &str))| Written {
            name: name.parse().ok().map(|name| (name, Some(place))),
            from: vec![(from.parse().unwrap(), Some(place))],
            to: vec![(to.parse().unwrap(), Some(place))],
            settings: blank(),
        };
        let written: Vec<_> = rows.iter().enumerate().map(written).collect();
        let (drafts, complaints) = drafts(&written);
        let said = complaints.into_iter().map(|it| format!("{}@{} {}", it.key, it.place.unwrap(), it.text));
        (drafts, said.collect())
    }

    /// The name of each route, and where it leads.
    fn led(rows: &[(&str, &str, &str)]) -> Vec<(String, String)> {
        let (drafts, complaints) = of(rows);
        assert_eq!(complaints, [""; 0]);
        let to = |(target, _): &(Target, Place)| match target {
            Target::Address(address) => address.to_string(),
            Target::Name(name, port) => format!("{name}:{port}"),
            Target::Echo => "echo:".to_owned(),
            Target::Unix(address) => address.to_string(),
        };
        let led = |draft: Draft| (draft.route.name, draft.to.iter().map(to).collect::<Vec<_>>().join(","));
        drafts.into_iter().map(led).collect()
    }

    fn pairs<const N: usize>(expected: [(&str, &str); N]) -> Vec<(String, String)> {
        expected.map(|(name, to)| (name.to_owned(), to.to_owned())).to_vec()
    }

    #[test]
    fn a_range_is_a_route_for_each_port_and_leads_there_port_by_port_or_to_one() {
        assert_eq!(
            led(&[("", ":7000-7002", "media.internal:8000-8002,10.0.0.1:9,echo:")]),
            pairs([
                (":7000", "media.internal:8000,10.0.0.1:9,echo:"),
                (":7001", "media.internal:8001,10.0.0.1:9,echo:"),
                (":7002", "media.internal:8002,10.0.0.1:9,echo:"),
            ])
        );
        assert_eq!(
            led(&[("", "127.0.0.1:70-71,localhost:80-81", "[::1]:90-91")]),
            pairs([
                ("127.0.0.1:70", "[::1]:90"),
                ("127.0.0.1:71", "[::1]:91"),
                ("localhost:80", "[::1]:90"),
                ("localhost:81", "[::1]:91"),
            ])
        );
    }

    #[test]
    fn a_name_is_shared_by_a_list_and_gets_the_ports_of_a_range() {
        let rows = [("web", "127.0.0.1:80,[::1]:80", "a:1"), ("media", ":7000-7001", "a:1")];
        let names: Vec<_> = led(&rows).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["web", "web", "media-7000", "media-7001"]);
        let rows = [("app", ":7000-7001,unix:/run/app", "a:1")];
        let names: Vec<_> = led(&rows).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["app-7000", "app-7001", "app"]);
    }

    #[test]
    fn ranges_of_unequal_length_are_named() {
        for (from, to, parts) in [
            (":7000-7009", "media:7000-7008", ["media:7000-7008 has 9 ports", ":7000-7009 has 10 ports"]),
            (":80", "media:7000-7001", ["media:7000-7001 has 2 ports", ":80 has 1 port;"]),
            (":80-81,:90", "media:7000-7001", ["media:7000-7001 has 2 ports", ":90 has 1 port;"]),
        ] {
            let (_, complaints) = of(&[("", "127.0.0.2:1", "a:1"), ("", from, to)]);
            let [complaint] = &complaints[..] else { panic!("{complaints:?}") };
            assert!(complaint.starts_with("to@1 ") && parts.iter().all(|part| complaint.contains(part)), "{complaint}");
        }
    }

    #[test]
    fn the_second_of_two_listeners_at_one_address_is_named() {
        for (first, second) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
            (":80", "127.0.0.1:80"),
            ("127.0.0.1:80", "0.0.0.0:80"),
            ("[::1]:80", ":80"),
            (":80", "[::]:80"),
            (":70-90", "127.0.0.1:80"),
            ("localhost:80", "LOCALHOST:80"),
            ("unix:/run/a", "unix:/run/a"),
            ("unix:@a", "unix:@a"),
        ] {
            let (_, complaints) = of(&[("", first, "a:1"), ("", second, "a:1")]);
            let [complaint] = &complaints[..] else { panic!("{first} {second}: {complaints:?}") };
            assert!(complaint.starts_with(&format!("from@1 {second} is ")), "{complaint}");
        }
        for (first, second) in [
            ("127.0.0.1:80", "127.0.0.1:81"),
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("0.0.0.0:80", "[::1]:80"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[fe80::1%1]:80", "[fe80::1%2]:80"),
            ("localhost:80", "127.0.0.1:80"),
            ("unix:/a", "unix:@/a"),
            ("unix:/a", "127.0.0.1:80"),
        ] {
            assert_eq!(of(&[("", first, "a:1"), ("", second, "a:1")]).1, [""; 0], "{first} {second}");
        }
    }

    #[test]
    fn a_name_belongs_to_one_route() {
        let rows = [("web", ":80", "a:1"), ("web", ":81", "a:1"), ("media", ":7-8", "a:1"), ("media-8", ":9", "a:1")];
        let (_, complaints) = of(&rows);
        let expected =
            ["name@1 web is the name of another route before", "name@3 media-8 is the name of another route before"];
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        for (complaint, expected) in complaints.iter().zip(expected) {
            assert!(complaint.starts_with(expected), "{complaint}");
        }
    }

    #[test]
    fn a_relay_has_at_most_1024_listeners_and_a_route_256_hosts() {
        assert_eq!(of(&[("", ":1-1000", "a:1"), ("", "127.0.0.1:2000-2023", "a:1")]).0.len(), 1024);
        for rows in [[("", ":1-1000", "a:1"), ("", ":2000-2024", "a:1")], [("", ":1", "a:1"), ("", ":2-65535", "a:1")]]
        {
            let (_, complaints) = of(&rows);
            let [complaint] = &complaints[..] else { panic!("{complaints:?}") };
            assert!(complaint.starts_with("from@1 :2") && complaint.contains("1024"), "{complaint}");
        }
        let (_, complaints) = of(&[("", ":1-1000,:2000-2024", "a:1")]);
        assert!(complaints[0].starts_with("from@0 :2000-2024 makes more than 1024"), "{complaints:?}");
        let hosts = |count| vec!["a:1"; count].join(",");
        assert_eq!(of(&[("", ":1", &hosts(256))]).1, [""; 0]);
        let (_, complaints) = of(&[("", ":1", &hosts(257))]);
        assert!(complaints[0].starts_with("to@0 names 257 hosts; an upstream may have 1 to 256"), "{complaints:?}");
    }

    #[test]
    fn a_name_is_1_to_64_plain_characters() {
        for name in ["a", "Web-1_x.y", &"x".repeat(64)] {
            assert_eq!(route_name(name), Ok(name.to_owned()));
        }
        for name in ["", "a b", "a:1", "é", &"x".repeat(65)] {
            assert!(route_name(name).unwrap_err().contains("1 to 64 letters"), "{name}");
        }
    }
}
