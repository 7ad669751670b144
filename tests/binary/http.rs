//! Real HTTP: a server that nobody here wrote, the relay, a client that nobody here wrote.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::patience::{LIMIT, skipped, until};
use crate::peers::bytes;
use crate::process::{Process, relay_to};

#[test]
fn curl_gets_from_a_python_server_what_is_there() {
    if !["python3", "curl"].into_iter().all(is_there) {
        return skipped("this takes python3 and curl");
    }
    let directory = tempfile::tempdir().unwrap();
    let page = bytes(1, 3_000_017);
    std::fs::write(directory.path().join("page"), &page).unwrap();
    let (_server, address) = serve(directory.path());
    let mut relay = relay_to(address).start();

    let got = directory.path().join("got");
    assert_eq!(fetch(&format!("http://{}/page", relay.address), &got), "200");
    assert!(std::fs::read(&got).unwrap() == page, "the page, byte for byte");
    assert_eq!(fetch(&format!("http://{}/no-such-page", relay.address), &got), "404");
    let sessions = relay.log.wait_for_sessions(2);
    assert!(sessions[0].down > page.len() as u64 && sessions[0].up > 0, "{sessions:?}");
    // This server speaks HTTP/1.0 and hangs up when all is said. So does curl, and may be first.
    assert!(sessions.iter().all(|session| session.end.ends_with("-eof")), "{sessions:?}");
    assert_eq!(relay.stop(), 0);
}

fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Serves a directory, and says where.
fn serve(directory: &Path) -> (Process, SocketAddr) {
    let mut command = Command::new("python3");
    command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(directory);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Process { child: command.spawn().unwrap() };
    // "Serving HTTP on 127.0.0.1 port 40001 (http://127.0.0.1:40001/) ..."
    let mut lines = BufReader::new(server.child.stdout.take().unwrap()).lines();
    let reading = std::thread::spawn(move || lines.next().unwrap().unwrap());
    until("the server to say where it listens", || reading.is_finished().then_some(()));
    let line = reading.join().unwrap();
    let port = line.split_once(" port ").and_then(|(_, rest)| rest.split(' ').next()).expect(&line);
    (server, SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap())))
}

/// Fetches a page into a file; what was its status?
fn fetch(url: &str, file: &Path) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", "*", "--write-out", "%{http_code}"]);
    command.args(["--max-time", &LIMIT.as_secs().to_string(), "--output"]).arg(file).arg(url);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
