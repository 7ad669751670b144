//! Two network namespaces, and a wire between them.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::fd::AsFd as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What the wire does to packets.
pub(crate) struct Wire {
    /// One way.
    pub(crate) delay_ms: u32,
    pub(crate) loss_percent: u32,
    pub(crate) seed: u64,
}

/// Two namespaces with a wire between them. They go with this.
pub(crate) struct Network {
    near: String,
    far: String,
    wire: Child,
    said: BufReader<ChildStdout>,
}

/// An end of the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Near,
    Far,
}

impl Network {
    /// The near end is 10.99.0.1, the far end 10.99.0.2. Both use cubic.
    pub(crate) fn new(wire: &Wire) -> Self {
        let process = std::process::id();
        let [near, far] = ["tpn", "tpf"].map(|name| format!("{name}{process}"));
        let Wire { delay_ms, loss_percent, seed } = wire;
        let mut child = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/path/wire.py"))
            .args([&near, &far])
            .args([delay_ms.to_string(), loss_percent.to_string(), seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed");
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        said.read_line(&mut ready).unwrap();
        let network = Self { near, far, wire: child, said };
        assert_eq!(ready, "ready\n", "root and /dev/net/tun are needed");
        for (name, address) in [(&network.near, "10.99.0.1/24"), (&network.far, "10.99.0.2/24")] {
            ip(&["netns", "add", name]);
            ip(&["link", "set", name, "netns", name]);
            ip(&["-n", name, "address", "add", address, "dev", name]);
            // The wire is to lose packets, not a queue in front of it.
            ip(&["-n", name, "link", "set", name, "txqueuelen", "20000", "up"]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
            ip(&["netns", "exec", name, "sysctl", "-qw", "net.ipv4.tcp_congestion_control=cubic"]);
            // Each session is to meet the path as a stranger.
            ip(&["netns", "exec", name, "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1"]);
        }
        network
    }

    /// From now on the calling thread, and what it starts, is at this end.
    pub(crate) fn enter(&self, end: End) {
        let name = match end {
            End::Near => &self.near,
            End::Far => &self.far,
        };
        let namespace = File::open(format!("/run/netns/{name}")).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }

    /// The far end has no address any more: what comes there is thrown away, and nothing is answered.
    pub(crate) fn vanish(&self) {
        ip(&["-n", &self.far, "address", "del", "10.99.0.2/24", "dev", &self.far]);
    }

    /// Cuts the wire. What did it carry?
    pub(crate) fn cut(mut self) -> String {
        drop(self.wire.stdin.take());
        let mut said = String::new();
        self.said.read_line(&mut said).unwrap();
        said.trim().to_owned()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.wire.kill();
        let _ = self.wire.wait();
        for name in [&self.near, &self.far] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).status().expect("ip of iproute2 is needed");
    assert!(done.success(), "ip {arguments:?}: {done}");
}
