//! Somebody who looks inside a relay all the time: its `--admin` page's data and its metrics, ten times a second.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::pause;
use crate::failure::{Outcome, failed};

/// Between two questions. Each is two requests.
const INTERVAL: Duration = Duration::from_millis(100);

/// The longest that an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// The name of the socket, in the folder of the run.
const SOCKET: &str = "admin";

pub(crate) fn socket(folder: &Path) -> PathBuf {
    folder.join(SOCKET)
}

/// Asks at least once, and until it is stopped.
pub(crate) struct Scraper {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Scraper {
    pub(crate) fn start(folder: &Path) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (path, is_over) = (socket(folder), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            loop {
                for target in ["/metrics", "/sessions"] {
                    ask(&path, target)?;
                }
                if is_over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                pause(INTERVAL);
            }
        });
        Self { stop, thread }
    }

    /// Stops it. Fails if a question had no answer.
    pub(crate) fn finish(self) -> Outcome<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => failed(format!("looking inside: {error}")),
            Err(_) => failed("looking inside panicked"),
        }
    }
}

fn ask(path: &Path, target: &str) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 200 ") { Ok(()) } else { Err(std::io::Error::other("no answer, or not 200")) }
}
