//! What may go wrong at a call of the seam, and what a schedule lets go wrong.

use rustix::io::Errno;

/// A call of the seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Wait,
    Accept,
    Connect,
    Connected,
    Register,
    Read,
    Write,
    ShutdownWrite,
    TakeError,
    Unacked,
    SpliceIn,
    SpliceOut,
    Pipe,
    RetransmissionTimeout,
    Listen,
    Local,
}

impl Call {
    /// Every result but success that a kernel may give, and that the state of the queues does not bring about anyway.
    ///
    /// WouldBlock is not among them: on a socket with something to give, with no edge to follow, it is no kernel's.
    pub(crate) const fn errors(self) -> &'static [Errno] {
        match self {
            Self::Wait => &[Errno::INTR],
            Self::Accept => &[
                Errno::MFILE,
                Errno::NFILE,
                Errno::NOBUFS,
                Errno::NOMEM,
                Errno::CONNABORTED,
                Errno::PROTO,
                Errno::INTR,
                Errno::NETDOWN,
                Errno::PERM,
                Errno::TIMEDOUT,
            ],
            Self::Connect => &[
                Errno::MFILE,
                Errno::NFILE,
                Errno::NOBUFS,
                Errno::NOMEM,
                Errno::CONNREFUSED,
                Errno::NETUNREACH,
                Errno::HOSTUNREACH,
                Errno::ACCESS,
                Errno::PERM,
                Errno::ADDRNOTAVAIL,
                Errno::AGAIN,
                Errno::INVAL,
            ],
            Self::Connected => {
                &[Errno::CONNREFUSED, Errno::TIMEDOUT, Errno::HOSTUNREACH, Errno::CONNRESET, Errno::ACCESS]
            }
            Self::Register => &[Errno::NOSPC, Errno::NOMEM],
            Self::Read => &[
                Errno::INTR,
                Errno::CONNRESET,
                Errno::TIMEDOUT,
                Errno::HOSTUNREACH,
                Errno::NETUNREACH,
                Errno::NOMEM,
                Errno::NOBUFS,
            ],
            Self::Write => &[
                Errno::INTR,
                Errno::CONNRESET,
                Errno::PIPE,
                Errno::TIMEDOUT,
                Errno::HOSTUNREACH,
                Errno::NOMEM,
                Errno::NOBUFS,
            ],
            Self::ShutdownWrite => &[Errno::INVAL],
            Self::TakeError => &[Errno::CONNRESET],
            // A kernel can say or it cannot: see `Laws::counts_unacked`.
            Self::Unacked => &[],
            // Here WouldBlock is one: a page was short, and no edge follows.
            Self::SpliceIn => &[
                Errno::AGAIN,
                Errno::INTR,
                Errno::INVAL,
                Errno::CONNRESET,
                Errno::TIMEDOUT,
                Errno::HOSTUNREACH,
                Errno::NOMEM,
                Errno::NOBUFS,
                Errno::PERM,
                Errno::ACCESS,
            ],
            Self::SpliceOut => &[
                Errno::INTR,
                Errno::INVAL,
                Errno::CONNRESET,
                Errno::PIPE,
                Errno::TIMEDOUT,
                Errno::HOSTUNREACH,
                Errno::NOMEM,
                Errno::NOBUFS,
                Errno::PERM,
                Errno::ACCESS,
            ],
            Self::Pipe => &[Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::OPNOTSUPP],
            Self::RetransmissionTimeout => &[Errno::OPNOTSUPP, Errno::INVAL, Errno::NOBUFS],
            Self::Local => &[Errno::NOBUFS, Errno::NOTCONN],
            Self::Listen => &[
                Errno::ADDRINUSE,
                Errno::ACCESS,
                Errno::ADDRNOTAVAIL,
                Errno::MFILE,
                Errno::NFILE,
                Errno::NOBUFS,
                Errno::NOMEM,
                Errno::NOSPC,
            ],
        }
    }

    /// Errors that end the process: they are swept one by one, never drawn.
    pub(crate) const fn fatal(self) -> &'static [Errno] {
        match self {
            Self::Wait => &[Errno::BADF, Errno::INVAL],
            Self::Accept => &[Errno::BADF, Errno::INVAL, Errno::NOTSOCK],
            Self::Connect
            | Self::Connected
            | Self::Register
            | Self::Read
            | Self::Write
            | Self::ShutdownWrite
            | Self::TakeError
            | Self::Unacked
            | Self::SpliceIn
            | Self::SpliceOut
            | Self::Pipe
            | Self::RetransmissionTimeout
            | Self::Listen
            | Self::Local => &[],
        }
    }

    /// Its place in [`Odds`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// Is this the connection's own end, after which the socket is dead? Other errors pass.
pub(crate) const fn kills(error: Errno) -> bool {
    matches!(
        error,
        Errno::CONNRESET | Errno::PIPE | Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::CONNREFUSED
    )
}

/// Of 65,536 calls of a kind, so many fail, each with one of its errors.
pub(crate) type Odds = [u16; 16];

/// Which faults a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faults {
    /// Those that the odds bring.
    Drawn(Odds),
    /// This one call, counted from the beginning, fails like this.
    Single { call: u64, error: Errno },
}

impl Faults {
    pub(crate) const NONE: Self = Self::Drawn([0; 16]);
}
