//! The PROXY protocol with the programs that speak it most. A test of a program that is not installed does nothing.
//!
//! ```console
//! $ apt-get install --no-install-recommends haproxy nginx-light libnginx-mod-stream
//! $ cargo test --test binary real_proxies
//! ```

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::journal::Journal;
use crate::patience::until;
use crate::peers::{Nobody, Upstream, client, finish, has_ipv6, hear, limited, read_all, relayed, say};
use crate::process::{Process, Relay, relay_to};

/// A program with a configuration of its own. It ends with this.
struct Server {
    address: SocketAddr,
    log: Journal,
    _process: Process,
    _folder: tempfile::TempDir,
}

/// Starts HAProxy with this configuration, in which ADDRESS is where it listens. None if it is not installed.
fn haproxy(configuration: &str) -> Option<Server> {
    start("haproxy", "-v", configuration, |folder| {
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(folder.join("configuration"));
        command
    })
}

/// As [`haproxy`], and None if it cannot do streams. FOLDER is its own.
fn nginx(configuration: &str) -> Option<Server> {
    const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let built = Command::new("nginx").arg("-V").output().ok()?;
    let has_streams = String::from_utf8_lossy(&built.stderr).split_whitespace().any(|word| word == "--with-stream");
    let load = match (Path::new(MODULE).exists(), has_streams) {
        (true, _) => format!("load_module {MODULE};"),
        (false, true) => String::new(),
        (false, false) => return None,
    };
    start("nginx", "-v", &format!("{load}\n{configuration}"), |folder| {
        let mut command = Command::new("nginx");
        command.arg("-e").arg(folder.join("errors")).arg("-c").arg(folder.join("configuration"));
        command
    })
}

fn start(program: &str, version: &str, configuration: &str, command: impl Fn(&Path) -> Command) -> Option<Server> {
    let is_there = Command::new(program).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !is_there {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    // It may listen where nobody else can by now.
    let place = Nobody::new();
    let text = configuration.replace("ADDRESS", &place.address.to_string());
    let text = text.replace("FOLDER", folder.path().to_str().unwrap());
    fs::write(folder.path().join("configuration"), text).unwrap();
    let mut command = command(folder.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Process { child: command.spawn().unwrap() };
    let log = Journal::of(process.child.stdout.take().unwrap());
    let address = place.address;
    until("the program to listen", || {
        assert_eq!(process.child.try_wait().unwrap(), None, "{program} should listen");
        TcpStream::connect(address).ok()
    });
    Some(Server { address, log, _process: process, _folder: folder })
}

const DEFAULTS: &str = "
global
    log stdout format raw local0
defaults
    log global
    timeout connect 10s
    timeout client 30s
    timeout server 30s
";

#[test]
fn haproxy_behind_us_logs_the_client_for_v1_and_v2_and_both_families() {
    let behind = format!(
        "{DEFAULTS}
frontend front
    mode http
    bind ADDRESS accept-proxy
    log-format \"saw %ci:%cp at %[dst]:%[dst_port]\"
    http-request return status 200 content-type text/plain lf-string \"you are %[src]:%[src_port]\"
"
    );
    let Some(haproxy) = haproxy(&behind) else { return };
    for from in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
        for version in ["v1", "v2"] {
            if from.starts_with('[') && !has_ipv6() {
                continue;
            }
            let relay = relay_to(haproxy.address).from(from).with(["--send-proxy", version]).start();
            let near = match from {
                "[::]:0" => client(([127, 0, 0, 1], relay.address.port()).into()),
                _ => client(relay.address),
            };
            say(&near, b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            let (answer, _) = read_all(&near);
            let (us, there) = (near.local_addr().unwrap(), near.peer_addr().unwrap());
            let plain = |address: SocketAddr| format!("{}:{}", address.ip(), address.port());
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.ends_with(&format!("you are {}", plain(us))), "{from} {version}: {answer}");
            haproxy.log.wait_for(&format!("saw {} at {}", plain(us), plain(there)));
        }
    }
}

fn accepting(upstream: &Upstream) -> Relay {
    relay_to(upstream.address).with(["--accept-proxy", "--proxy-from", "127.0.0.1"]).start()
}

/// A client of that program is served through us, and we know who it is.
fn is_announced(program: &Server, upstream: &Upstream, relay: &Relay) {
    let near = limited(TcpStream::connect(program.address).unwrap());
    say(&near, b"hello");
    let far = upstream.accept();
    assert_eq!(hear(&far, 5), b"hello");
    relayed(&far, &near, b"there");
    // Not every proxy knows half of a connection.
    finish(&near);
    finish(&far);
    let us = near.local_addr().unwrap();
    let session =
        until("the client's session", || relay.log.sessions().into_iter().find(|session| session.client == us));
    assert_eq!((session.up, session.down), (5, 5), "{session:?}");
}

#[test]
fn haproxy_before_us_is_understood_with_either_version_and_with_tlvs() {
    for options in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c"] {
        let upstream = Upstream::new();
        let relay = accepting(&upstream);
        let before = format!(
            "{DEFAULTS}
listen front
    mode tcp
    bind ADDRESS
    unique-id-format %{{+X}}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
    server back {} {options}
",
            relay.address
        );
        let Some(haproxy) = haproxy(&before) else { return };
        // That it listens was found out with a client that said nothing.
        drop(upstream.accept());
        is_announced(&haproxy, &upstream, &relay);
    }
}

/// A health check is announced with LOCAL: HAProxy speaks for itself.
#[test]
fn a_health_check_of_haproxy_is_its_own_session() {
    let upstream = Upstream::new();
    // Clients that are announced are denied, and with them the one that finds out whether HAProxy listens.
    let deny = ["--deny", "127.0.0.0/8"];
    let relay = relay_to(upstream.address).with(["--accept-proxy", "--proxy-from", "127.0.0.1"]).with(deny).start();
    let before = format!(
        "{DEFAULTS}
listen front
    mode tcp
    bind ADDRESS
    option tcp-check
    tcp-check expect string 220
    server back {} send-proxy-v2 check check-send-proxy inter 60s
",
        relay.address
    );
    let Some(_haproxy) = haproxy(&before) else { return };
    say(&upstream.accept(), b"220 ready\r\n");
    let session = until("the check", || relay.log.sessions().into_iter().find(|session| session.down > 0));
    assert!(session.client.ip().is_loopback(), "{session:?}");
}

#[test]
fn nginx_before_us_is_understood() {
    let upstream = Upstream::new();
    let relay = accepting(&upstream);
    let before = format!(
        "daemon off; master_process off; pid FOLDER/pid; error_log FOLDER/errors;
events {{}}
stream {{
    server {{ listen ADDRESS; proxy_pass {}; proxy_protocol on; }}
}}
",
        relay.address
    );
    let Some(nginx) = nginx(&before) else { return };
    drop(upstream.accept());
    is_announced(&nginx, &upstream, &relay);
}
