//! An upstream that tells each client its label, and closes.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::net::Shutdown;

/// It serves until it is dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// It runs in the network of the calling thread.
    pub(crate) fn new(at: &str, label: &'static str) -> Self {
        let listener = Arc::new(TcpListener::bind(at).unwrap_or_else(|error| panic!("{at}: {error}")));
        let accepting = Arc::clone(&listener);
        let serve = move || {
            while let Ok((mut stream, _)) = accepting.accept() {
                // A client that has gone is its own affair.
                let _ = stream.write_all(label.as_bytes());
            }
        };
        Self { address: listener.local_addr().unwrap(), listener, thread: Some(thread::spawn(serve)) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // accept(2) fails then, also the one under way.
        let _ = rustix::net::shutdown(&self.listener, Shutdown::Both);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
