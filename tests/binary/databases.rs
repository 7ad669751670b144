//! PostgreSQL and Redis through Unix sockets of ours, both ways: the program comes by one, and its server is behind one.
//!
//! ```console
//! $ cargo test --test binary databases -- --nocapture    # says which of them is not installed, and skips it
//! ```

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::patience::until;
use crate::process::Process;
use crate::served::Served;

/// Is this program there? If not, says so.
fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        let _ = writeln!(std::io::stderr(), "{program} is not installed: skipped");
    }
    found
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

#[test]
fn redis_through_unix_sockets() {
    if !installed("redis-server") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (back, front) = (folder.path().join("redis"), folder.path().join("front"));
    let child = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(&back)
        .arg("--dir")
        .arg(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _redis = Process { child };
    until("redis to listen", || UnixStream::connect(&back).ok());
    let relay = Served::with(&["-f", &format!("{},127.0.0.1:0", unix(&front)), "-t", &unix(&back)]);
    let by_unix = UnixStream::connect(&front).unwrap();
    by_unix.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut by_unix = BufReader::new(by_unix);
    let by_tcp = std::net::TcpStream::connect(relay.addresses[0]).unwrap();
    by_tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut by_tcp = BufReader::new(by_tcp);
    let mut line = String::new();
    let value = "v".repeat(300_000);
    for number in 0..100 {
        write!(by_unix.get_mut(), "SET key{number} value{number}\r\n").unwrap();
        line.clear();
        by_unix.read_line(&mut line).unwrap();
        assert_eq!(line, "+OK\r\n");
    }
    write!(by_unix.get_mut(), "*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n{value}\r\n", value.len()).unwrap();
    line.clear();
    by_unix.read_line(&mut line).unwrap();
    assert_eq!(line, "+OK\r\n");
    // What came in by the one is there by the other.
    for (key, expected) in [("key7", "value7"), ("big", &value)] {
        write!(by_tcp.get_mut(), "GET {key}\r\n").unwrap();
        line.clear();
        by_tcp.read_line(&mut line).unwrap();
        assert_eq!(line, format!("${}\r\n", expected.len()));
        line.clear();
        by_tcp.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), expected);
    }
}

/// A command of PostgreSQL's. Its server does not run as root.
fn postgres(program: &str) -> Command {
    if rustix::process::getuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", program]);
        command.env("HOME", "/nonexistent");
        return command;
    }
    Command::new(program)
}

#[test]
fn postgres_through_unix_sockets() {
    if !["postgres", "initdb", "psql"].into_iter().all(installed) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, back, front) = (folder.path().join("data"), folder.path().join("back"), folder.path().join("front"));
    for folder in [folder.path(), &back, &front] {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }
    let made = postgres("initdb").args(["-N", "-A", "trust", "-U", "test", "-D"]).arg(&data).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let sockets = format!("unix_socket_directories={}", back.display());
    let child = postgres("postgres")
        .args(["-F", "-c", "listen_addresses=", "-c", &sockets, "-D"])
        .arg(&data)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Process { child };
    let socket = back.join(".s.PGSQL.5432");
    until("postgres to listen", || UnixStream::connect(&socket).ok());
    let from = format!("{},127.0.0.1:0", unix(&front.join(".s.PGSQL.5432")));
    let relay = Served::with(&["-f", &from, "-t", &unix(&socket), "--unix-mode", "666"]);
    let ask = |host: &str, port: &str, statement: &str| {
        let output = Command::new("psql")
            .args(["-h", host, "-p", port, "-U", "test", "-d", "postgres", "-qAt", "-c", statement])
            .env("PGCONNECT_TIMEOUT", "30")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let by_unix = front.to_str().unwrap();
    let answer = until("postgres to be ready", || {
        let mut ready = Command::new("psql");
        ready.args(["-h", by_unix, "-U", "test", "-d", "postgres", "-qAt", "-c", "SELECT 1"]);
        ready.output().ok().filter(|output| output.status.success())
    });
    assert_eq!(answer.stdout, b"1\n");
    ask(by_unix, "5432", "CREATE TABLE t AS SELECT n, repeat('x', 100) AS s FROM generate_series(1, 20000) n");
    let port = relay.addresses[0].port().to_string();
    assert_eq!(ask("127.0.0.1", &port, "SELECT count(*), sum(length(s)) FROM t"), "20000|2000000\n");
    // Two megabytes, by way of both.
    for (host, port) in [(by_unix, "5432"), ("127.0.0.1", &port)] {
        assert_eq!(ask(host, port, "SELECT s FROM t").len(), 20_000 * 101);
    }
}
