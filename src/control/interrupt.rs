//! A wait that a stop signal ends.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::SigId;
use signal_hook::low_level::{pipe, unregister};

/// Ends waits when a stop signal comes, or has come since it was made.
#[derive(Debug)]
pub(crate) struct Interrupt {
    tx: UnixStream,
    rx: UnixStream,
    signals: Vec<SigId>,
}

/// How a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Waited<T> {
    Done(T),
    TimedOut,
    Stopped,
}

/// The byte of work that is done. A signal's is another.
const DONE: u8 = b'D';

impl Interrupt {
    /// One that these signals set off.
    pub(crate) fn by(signals: &[i32]) -> io::Result<Self> {
        let (tx, rx) = UnixStream::pair()?;
        let mut interrupt = Self { tx, rx, signals: Vec::new() };
        for signal in signals {
            let fd = interrupt.tx.as_fd().try_clone_to_owned()?;
            interrupt.signals.push(pipe::register(*signal, fd)?);
        }
        Ok(interrupt)
    }

    /// Lets a thread of its own do this work, and waits for it. Work that is not waited for any longer goes on.
    ///
    /// # Errors
    /// When there is no thread.
    #[expect(clippy::disallowed_methods, reason = "the loop has not begun")]
    pub(crate) fn wait_for<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Waited<T>> {
        let begun = Instant::now();
        let (result, results) = mpsc::channel();
        let end_of_work = self.tx.try_clone()?;
        let run = move || {
            let _ = result.send(work());
            let _ = (&end_of_work).write(&[DONE]);
        };
        thread::Builder::new().name("lookup".into()).spawn(run)?;
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(Waited::TimedOut);
            }
            self.rx.set_read_timeout(Some(left))?;
            let mut byte = [0];
            match (&self.rx).read(&mut byte) {
                Ok(_) if byte[0] != DONE => return Ok(Waited::Stopped),
                // A byte without a result is that of work before, which was not waited for to its end.
                Ok(_) => {
                    if let Ok(result) = results.try_recv() {
                        return Ok(Waited::Done(result));
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.signals.drain(..).for_each(|signal| {
            unregister(signal);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_waited_for_until_it_is_done_or_its_time_is_up() {
        let interrupt = Interrupt::by(&[]).unwrap();
        assert_eq!(interrupt.wait_for(Duration::from_secs(20), || 7).unwrap(), Waited::Done(7));
        let (release, hold) = mpsc::channel::<()>();
        let hang = move || hold.recv().is_err();
        assert_eq!(interrupt.wait_for(Duration::from_millis(20), hang).unwrap(), Waited::TimedOut);
        // What was not waited for is done now, and is taken for nobody's result.
        drop(release);
        assert_eq!(interrupt.wait_for(Duration::from_secs(20), || "next").unwrap(), Waited::Done("next"));
    }

    #[test]
    fn a_stop_signal_ends_the_wait_also_if_it_came_before() {
        let interrupt = Interrupt::by(&[]).unwrap();
        (&interrupt.tx).write_all(b"X").unwrap();
        let (_release, hold) = mpsc::channel::<()>();
        let hang = move || hold.recv().is_err();
        assert_eq!(interrupt.wait_for(Duration::from_secs(20), hang).unwrap(), Waited::Stopped);
    }
}
