//! A pipe to splice through: bytes pass from socket to socket as pages, and are never copied.

use std::io;

#[cfg(target_os = "linux")]
pub use linux::Pipe;
#[cfg(not(target_os = "linux"))]
pub use none::Pipe;

/// Bytes a pipe is asked to hold: the most an unprivileged process gets (`/proc/sys/fs/pipe-max-size`, `pipe(7)`).
#[cfg(target_os = "linux")]
const SIZE: usize = 1 << 20;

/// A pipe that holds less is not worth its calls. The kernel gives one page to a user that has 64 MiB of pipes already (`/proc/sys/fs/pipe-user-pages-soft`).
#[cfg(target_os = "linux")]
const WORTHWHILE: usize = 64 << 10;

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::{BorrowedFd, OwnedFd};

    use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};

    use super::{SIZE, WORTHWHILE, io};

    /// Both ends of a pipe, two descriptors.
    #[derive(Debug)]
    pub struct Pipe {
        exit: OwnedFd,
        entry: OwnedFd,
        size: usize,
    }

    fn worthwhile(size: usize) -> io::Result<usize> {
        if size < WORTHWHILE {
            return Err(io::Error::new(io::ErrorKind::Unsupported, format!("the pipe holds only {size} bytes")));
        }
        Ok(size)
    }

    impl Pipe {
        pub(in crate::net::mio) fn new() -> io::Result<Self> {
            Self::of_size(SIZE)
        }

        fn of_size(size: usize) -> io::Result<Self> {
            let (exit, entry) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            // Not being allowed to enlarge it (EPERM) leaves it as it is.
            let size = worthwhile(fcntl_setpipe_size(&entry, size).or_else(|_| fcntl_getpipe_size(&entry))?)?;
            Ok(Self { exit, entry, size })
        }

        pub(in crate::net::mio) fn splice_in(&mut self, from: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
            Ok(splice(from, None, &self.entry, None, self.size.min(most), SpliceFlags::NONBLOCK)?)
        }

        /// `count` must be exactly what the pipe holds. With more, the kernel expects more to come and delays the last piece.
        pub(in crate::net::mio) fn splice_out(&mut self, into: BorrowedFd<'_>, count: usize) -> io::Result<usize> {
            Ok(splice(&self.exit, None, into, None, count, SpliceFlags::NONBLOCK)?)
        }

        pub(in crate::net::mio) fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            Ok(rustix::io::read(&self.exit, room)?)
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_pipe_of_a_page_or_two_is_none() {
            // A user with many pipes gets the first (`pipe(7)`); without permission to ask for more, a pipe has the last.
            assert_eq!(worthwhile(4096).unwrap_err().to_string(), "the pipe holds only 4096 bytes");
            assert!(worthwhile(8192).is_err());
            assert_eq!(worthwhile(65536).unwrap(), 65536);
        }

        #[test]
        fn a_pipe_says_what_it_holds() {
            let pipe = Pipe::new().unwrap();
            assert_eq!(pipe.size, fcntl_getpipe_size(&pipe.entry).unwrap());
        }

        /// EPERM, as a user gets who may not have more.
        #[test]
        fn a_pipe_that_may_not_be_enlarged_is_used_as_it_is() {
            let pipe = Pipe::of_size(usize::MAX).unwrap();
            assert_eq!(pipe.size, fcntl_getpipe_size(&pipe.entry).unwrap());
            assert!((WORTHWHILE..SIZE).contains(&pipe.size), "{}", pipe.size);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod none {
    use std::os::fd::BorrowedFd;

    use super::io;

    /// There are none here.
    #[derive(Debug)]
    pub enum Pipe {}

    impl Pipe {
        pub(in crate::net::mio) fn new() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(in crate::net::mio) fn splice_in(&mut self, _: BorrowedFd<'_>, _: usize) -> io::Result<usize> {
            match *self {}
        }

        pub(in crate::net::mio) fn splice_out(&mut self, _: BorrowedFd<'_>, _: usize) -> io::Result<usize> {
            match *self {}
        }

        pub(in crate::net::mio) fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            match *self {}
        }
    }
}
