//! A name server that is asked, and never answers.

use std::collections::BTreeSet;
use std::net::UdpSocket;

use crate::patience::LIMIT;

/// It takes what is sent to port 53 of the network of the calling thread.
pub(crate) struct SilentServer(UdpSocket);

impl SilentServer {
    pub(crate) fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Self(socket)
    }

    /// The name that the next question is about.
    pub(crate) fn asked(&self) -> String {
        let mut room = [0; 512];
        let length = self.0.recv(&mut room).expect("no question came");
        // RFC 1035, 4.1: a header of 12 bytes, then the labels of the name, each behind its length.
        let (mut rest, mut labels) = (&room[12..length], Vec::new());
        while let Some((1.., _)) = rest.split_first() {
            let (label, behind) = rest[1..].split_at(usize::from(rest[0]));
            labels.push(String::from_utf8_lossy(label).into_owned());
            rest = behind;
        }
        labels.join(".")
    }

    /// Waits until it was asked for so many names.
    pub(crate) fn asked_for(&self, count: usize) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        while names.len() < count {
            names.insert(self.asked());
        }
        names
    }

    /// Was nothing asked that was not taken yet?
    pub(crate) fn is_idle(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let is_idle = self.0.peek(&mut [0]).is_err();
        self.0.set_nonblocking(false).unwrap();
        is_idle
    }
}
