//! A real server by name, whose first address dies between two connections.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::machine::{Machine, on_a_machine};
use crate::patience::{LIMIT, until};
use crate::relay::Relay;

/// A redis-server that knows its own label. It ends with this.
struct Redis(Child);

impl Redis {
    fn start(machine: &Machine, host: &str, label: &str) -> Self {
        let child = Command::new("redis-server")
            .args(["--bind", host, "--port", "6379", "--save", "", "--appendonly", "no", "--dir"])
            .arg(machine.folder())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed");
        let redis = Self(child);
        let stream = until("redis to listen", || TcpStream::connect((host, 6379)).ok());
        assert_eq!(Connection::of(stream).ask(&format!("SET label {label}")), "+OK");
        redis
    }

    /// As when its machine loses power, seen from here.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self(BufReader::new(stream))
    }

    /// A command, and the line that answers it.
    fn ask(&mut self, command: &str) -> String {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        self.line()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn get(&mut self, key: &str) -> String {
        let length = self.ask(&format!("GET {key}"));
        let value = self.line();
        assert_eq!(length, format!("${}", value.len()));
        value
    }

    /// Its server is gone: is that seen here?
    fn is_over(&mut self) -> bool {
        match self.0.fill_buf() {
            Ok(rest) => rest.is_empty(),
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

#[test]
#[ignore = "needs root, iproute2, util-linux and redis-server: see main.rs"]
fn redis_by_name_fails_over_between_two_connections() {
    on_a_machine(|machine| {
        machine.hosts(&["127.0.0.2 cache.test", "127.0.0.3 cache.test"]);
        let (mut a, mut b) =
            (Some(Redis::start(machine, "127.0.0.2", "A")), Some(Redis::start(machine, "127.0.0.3", "B")));
        let relay = Relay::on(machine, &["-f", "127.0.0.1:0", "-t", "cache.test:6379"]);
        let mut before = Connection::of(relay.connect(0));
        for number in 0..100 {
            assert_eq!(before.ask(&format!("SET key{number} value{number}")), "+OK");
            assert_eq!(before.get(&format!("key{number}")), format!("value{number}"));
        }
        // Which of the two it is, is getaddrinfo's affair.
        let (served, spare) = match before.get("label").as_str() {
            "A" => (a.take().unwrap(), "B"),
            "B" => (b.take().unwrap(), "A"),
            other => panic!("{other:?} is neither"),
        };
        assert_ne!(Connection::of(relay.connect(0)).get("label"), spare, "the first that answers is kept to");
        served.kill();
        assert!(before.is_over(), "the client should be told");
        for _ in 0..10 {
            let mut after = Connection::of(relay.connect(0));
            assert_eq!((after.get("label").as_str(), after.ask("PING").as_str()), (spare, "+PONG"));
        }
        relay.wait_for(&["WARN", ":6379"]);
    });
}
