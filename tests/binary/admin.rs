//! `--admin` and `--metrics`: what is shown where, to whom, and that a client there costs the relay nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::journal::Journal;
use crate::patience::{LIMIT, skipped, until};
use crate::peers::{Ended, Upstream, client, end_of, finish, limited, relayed, reset};
use crate::process::tproxy;
use crate::served::Served;

/// A relay to there with both HTTP listeners.
pub(crate) struct Inside {
    pub(crate) upstream: Upstream,
    pub(crate) relay: Served,
    pub(crate) admin: SocketAddr,
    metrics: SocketAddr,
}

/// Where this HTTP listener of the relay is.
pub(crate) fn http_address(log: &Journal, name: &str) -> SocketAddr {
    let line = log.wait_for(&format!("--{name} on "));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

impl Inside {
    pub(crate) fn with(words: &[&str]) -> Self {
        let upstream = Upstream::new();
        let to = upstream.address.to_string();
        let mut all = vec!["-f", "127.0.0.1:0", "-t", &to, "--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
        all.extend(words);
        let relay = Served::with(&all);
        let (admin, metrics) = (http_address(&relay.log, "admin"), http_address(&relay.log, "metrics"));
        Self { upstream, relay, admin, metrics }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.relay.addresses[0]
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(self.admin, path, "Host: localhost\r\n")
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        json_of(self.admin, path)
    }
}

/// What is shown there, read.
pub(crate) fn json_of(admin: SocketAddr, path: &str) -> Value {
    let (status, body) = get(admin, path, "Host: localhost\r\n");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// The status and the body.
pub(crate) fn get(address: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    answer(&whole_answer(address, path, headers))
}

fn whole_answer(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = limited(TcpStream::connect(address).unwrap());
    write!(stream, "GET {path} HTTP/1.1\r\n{headers}\r\n").unwrap();
    std::io::read_to_string(stream).unwrap()
}

/// The same through a Unix socket, from a client of the older version.
pub(crate) fn get_through(socket: impl AsRef<Path>, path: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    answer(&std::io::read_to_string(stream).unwrap())
}

/// The same of an answer.
pub(crate) fn answer(text: &str) -> (u16, String) {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    assert_eq!(body.len(), length.parse::<usize>().unwrap(), "{text}");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn sessions_and_routes_are_shown_as_they_are() {
    let mut inside = Inside::with(&[]);
    // An address that nobody has tried is as good as any.
    assert_eq!(inside.json("/routes")["routes"][0]["endpoints"][0]["down"], false);
    let near = client(inside.address());
    let far = inside.upstream.accept();
    relayed(&near, &far, b"12345");
    relayed(&far, &near, b"123");
    let sessions = inside.json("/sessions");
    let row = &sessions["sessions"][0];
    assert_eq!((&sessions["live"], &sessions["next"]), (&1.into(), &Value::Null));
    // A page behind the last session still says how many there are.
    let behind = inside.json("/sessions?from=1");
    assert_eq!((&behind["live"], behind["sessions"].as_array().unwrap().len()), (&1.into(), 0));
    assert_eq!(row["client"], near.local_addr().unwrap().to_string());
    assert_eq!(row["upstream"], inside.upstream.address.to_string());
    assert_eq!((&row["up"], &row["down"], &row["stage"]), (&5.into(), &3.into(), &"relaying".into()));
    assert!(row["age"].as_f64().unwrap() > 0.0, "{row}");
    let other = client(inside.address());
    reset(inside.upstream.accept());
    assert_eq!(end_of(&other), Ended::Reset);
    let routes =
        until("the session to be counted", || Some(inside.json("/routes")).filter(|routes| routes["sessions"] == 1));
    let route = &routes["routes"][0];
    assert_eq!((&route["live"], &route["ends"]["upstream-reset"]), (&1.into(), &1.into()));
    let endpoint = &route["endpoints"][0];
    assert_eq!((&endpoint["down"], &endpoint["live"]), (&false.into(), &1.into()));
    finish(&near);
    finish(&far);
    assert_eq!(inside.relay.stop(), 0);
}

#[test]
fn metrics_are_what_prometheus_reads_and_name_no_client() {
    let inside = Inside::with(&["-t", "127.0.0.1:9"]);
    let near = client(inside.address());
    let far = inside.upstream.accept();
    relayed(&near, &far, b"12345");
    let (status, text) = get(inside.metrics, "/metrics", "");
    assert_eq!(status, 200);
    let route = "route=\"127.0.0.1:0\"";
    for line in [
        format!("tproxy_sessions{{{route}}} 1"),
        // Also of a session that lives.
        format!("tproxy_bytes_total{{{route},direction=\"up\"}} 5"),
        format!("tproxy_endpoint_up{{address=\"{}\"}} 1", inside.upstream.address),
        "tproxy_log_lines_dropped_total 0".to_owned(),
        "tproxy_connect_seconds_count 1".to_owned(),
        "tproxy_session_seconds_count 0".to_owned(),
    ] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    assert!(!text.contains(&near.local_addr().unwrap().port().to_string()), "{text}");
    // A family is told once, whatever has labels in it, and its samples follow.
    let mut family = "";
    let mut families = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
            families.push(family);
        }
        assert!(line.starts_with('#') || line.starts_with(family), "{line} behind {family}");
    }
    assert_eq!(families.iter().collect::<BTreeSet<_>>().len(), families.len(), "{families:?}");
    // A real parser, where it is installed (prometheus_client of pip).
    let script = "import sys\nfrom prometheus_client.parser import text_string_to_metric_families as read\n\
                  print(sum(len(family.samples) for family in read(sys.stdin.read())))";
    let mut python = Command::new("python3");
    python.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = python.spawn() else { return };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if !said.contains("ModuleNotFoundError") {
        let count: usize = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or_else(|_| panic!("{said}"));
        assert_eq!(count, text.lines().filter(|line| !line.starts_with('#')).count());
    }
}

/// Clients choose by Content-Type, and a browser runs the scripts in HTML.
#[test]
fn each_answer_says_what_it_is_and_what_may_run() {
    let inside = Inside::with(&[]);
    for (path, kind, begins) in [
        ("/", "text/html; charset=utf-8", "<!doctype html>\n"),
        ("/sessions", "application/json", "{"),
        ("/routes", "application/json", "{"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8", "# HELP "),
        ("/healthz", "text/plain; charset=utf-8", "ok\n"),
        ("/readyz", "text/plain; charset=utf-8", "ready\n"),
        ("/nothing", "text/plain; charset=utf-8", "/ /sessions /routes /metrics /healthz /readyz\n"),
    ] {
        let text = whole_answer(inside.admin, path, "Host: localhost\r\n");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap();
        assert_eq!((header("Content-Type"), body.starts_with(begins)), (kind, true), "{path}: {text}");
        let policy = header("Content-Security-Policy");
        let own = include_str!("../../src/control/admin/page.policy").trim();
        assert_eq!(policy, if path == "/" { own } else { "default-src 'none'; frame-ancestors 'none'" }, "{path}");
    }
}

#[test]
fn each_listener_shows_its_own_and_only_to_whom_it_may() {
    let inside = Inside::with(&[]);
    for path in ["/", "/sessions", "/routes", "/metrics", "/healthz", "/readyz"] {
        let expected = if ["/metrics", "/healthz", "/readyz"].contains(&path) { 200 } else { 404 };
        assert_eq!((inside.get(path).0, get(inside.metrics, path, "").0), (200, expected), "{path}");
        for headers in ["", "Host: example.com\r\n", "Host: localhost.example.com\r\n"] {
            assert_eq!(get(inside.admin, path, headers).0, 403, "{path} {headers}");
        }
    }
    assert_eq!(inside.get("/nothing").0, 404);
    assert_eq!(inside.get("/sessions?from=x").0, 400);
    for (admin, words) in
        [("0.0.0.0:0", "only for this machine"), (":0", "only for this machine"), ("localhost:1", "is a name")]
    {
        let refused = tproxy(["-t", "127.0.0.1:9", "--admin", admin]);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.join(" ").contains(words), "{refused:?}");
    }
    let taken = inside.admin.to_string();
    let refused = tproxy(["-f", "127.0.0.1:0", "-t", "127.0.0.1:9", "--metrics", &taken]);
    assert_eq!(refused.code, 3);
    assert!(refused.stderr.join(" ").contains("--metrics: cannot listen on"), "{refused:?}");
}

#[test]
fn the_file_of_a_unix_socket_is_for_its_user_and_goes() {
    let upstream = Upstream::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let (to, admin) = (upstream.address.to_string(), format!("unix:{}", path.display()));
    let mut relay = Served::with(&["-f", "127.0.0.1:0", "-t", &to, "--admin", &admin]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(get_through(&path, "/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(relay.stop(), 0);
    assert!(!path.exists());
}

/// Sixteen have a place, for two seconds; the next waits in the queue. The relay notices nothing.
#[test]
fn silent_and_nonsensical_clients_hold_up_nobody_but_themselves() {
    let inside = Inside::with(&[]);
    let silent: Vec<_> = (0..16).map(|_| limited(TcpStream::connect(inside.admin).unwrap())).collect();
    let near = client(inside.address());
    let far = inside.upstream.accept();
    relayed(&near, &far, b"meanwhile");
    assert_eq!(inside.get("/healthz").0, 200, "when their time is up");
    assert!(silent.iter().all(|one| end_of(one) == Ended::Reset));
    for nonsense in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"GET / HTTP/9.9\r\n\r\n", &[b'x'; 20_000]] {
        let mut stream = limited(TcpStream::connect(inside.admin).unwrap());
        let _ = stream.write_all(nonsense);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&said));
    }
    relayed(&near, &far, b"and after");
    assert_eq!(inside.get("/healthz").0, 200);
}

/// Load balancers are to look elsewhere from the first stop request on, also during the delay.
#[test]
fn it_is_not_ready_any_more_when_it_is_to_stop() {
    let mut inside = Inside::with(&["--drain-delay", "1h"]);
    assert_eq!(get(inside.metrics, "/readyz", ""), (200, "ready\n".to_owned()));
    inside.relay.signal(Signal::TERM);
    until("it to be not ready", || {
        (get(inside.metrics, "/readyz", "") == (503, "stopping\n".to_owned())).then_some(())
    });
    assert_eq!(get(inside.metrics, "/healthz", "").0, 200);
    let seen = inside.json("/routes");
    assert_eq!((&seen["stopping"], &seen["routes"][0]["listed"]), (&true.into(), &true.into()), "{seen}");
    // The delay is not waited for, 300 ms after the first.
    until("it to end", || {
        inside.relay.signal(Signal::TERM);
        inside.relay.log.with("stopped after").first().cloned()
    });
    inside.relay.code();
}

/// A page whose policy names another script runs nothing.
#[test]
fn the_policy_of_the_page_names_what_is_in_the_page() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/control/admin");
    let script = "import sys, re, base64, hashlib\n\
        page = open(sys.argv[1] + '/page.html', encoding='utf-8', newline='').read()\n\
        policy = open(sys.argv[1] + '/page.policy').read()\n\
        for tag in 'style', 'script':\n    \
            [part] = re.findall(f'<{tag}>(.*?)</{tag}>', page, re.S)\n    \
            sum = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()\n    \
            assert f\"{tag}-src 'sha256-{sum}'\" in policy, tag + ' is ' + sum\n";
    let mut python = Command::new("python3");
    let Ok(output) = python.args(["-c", script, folder]).stdin(Stdio::null()).output() else {
        return skipped("this takes python3");
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
