//! Listening sockets that were left open for us: by systemd or another supervisor (`sd_listen_fds(3)`), or by the relay whose
//! place we take.
//!
//! The relay before says what it hands over in `TPROXY_LISTENERS`: entries with a space between, each of five fields.
//!
//! ```text
//!   7:3:web::127.0.0.1:80            descriptor 7; it was lent to the first relay as fd:3 and systemd:web
//!   8:::file:unix:/run/app.sock      descriptor 8; the relay before bound it, and its file goes when we stop
//!   9::admin:file:unix:/run/a.sock   descriptor 9; --admin listens there
//! ```
//! `LISTEN_PID` would have to name a process that does not exist yet.

use std::env;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;

use tproxy::Inherited;
use tproxy::net::address::Visible;
use tproxy::net::{Address, Handed};

use super::admin::Role;
use crate::cli::Which;

/// What the relay before says that it hands over.
pub(super) const LISTENERS: &str = "TPROXY_LISTENERS";

/// Which sockets a supervisor has lent, by what the command line and the file call them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inheritance {
    lent: Arc<Vec<Lent>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Lent {
    /// Its number in the process that it was lent to.
    number: RawFd,
    /// Its name, if it has one.
    name: String,
    /// Where it is bound, or what is wrong with it.
    address: Result<Address, String>,
}

/// What a process has when it starts.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) inherited: Inheritance,
    /// Those of the routes.
    pub(crate) sockets: Vec<Inherited>,
    /// Those of the relay before for looking inside.
    pub(crate) http: Vec<(Role, Inherited)>,
    pub(crate) start: Start,
}

/// Where the sockets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// A start like any other.
    Fresh,
    /// A relay serves already, and is to be told when we do.
    Successor,
}

impl Inheritance {
    /// Takes the sockets: those of the relay before, or those that were lent, and these numbers in any case.
    ///
    /// # Errors
    /// In words, when one of them is no socket that can be listened on. Of the numbers, [`find`](Self::find) says that.
    pub(crate) fn take(numbers: impl Iterator<Item = RawFd>) -> Result<Taken, String> {
        if let Some(list) = env::var_os(LISTENERS) {
            let list = list.into_string().map_err(|_| format!("{LISTENERS} is not text"))?;
            let (lent, sockets, http) = read(&list)?;
            let inherited = Self { lent: Arc::new(lent) };
            return Ok(Taken { inherited, sockets, http, start: Start::Successor });
        }
        let (mut lent, mut sockets) = (Vec::new(), Vec::new());
        let wrong =
            |error: io::Error| format!("LISTEN_FDS: {error} (it is set by whoever starts this with open sockets)");
        for (number, name) in sd_notify::listen_fds_with_names().map_err(wrong)? {
            let socket = Inherited::lent(number)
                .map_err(|error| format!("the inherited descriptor {number} ({}): {}", visible(&name), why(&error)))?;
            lent.push(Lent { number, name, address: Ok(socket.address().clone()) });
            sockets.push(socket);
        }
        for number in numbers {
            if lent.iter().any(|lent| lent.number == number) {
                continue;
            }
            let address = Inherited::lent(number).map(|socket| {
                let address = socket.address().clone();
                sockets.push(socket);
                address
            });
            lent.push(Lent { number, name: String::new(), address: address.map_err(|error| why(&error)) });
        }
        Ok(Taken { inherited: Self { lent: Arc::new(lent) }, sockets, http: Vec::new(), start: Start::Fresh })
    }

    /// Where these sockets are bound.
    ///
    /// # Errors
    /// In words, when there is none.
    pub(crate) fn find(&self, which: &Which) -> Result<Vec<Address>, String> {
        let is_meant = |lent: &&Lent| match which {
            Which::Number(number) => lent.number == *number,
            Which::Name(name) => lent.name == *name,
        };
        let found: Vec<_> = self.lent.iter().filter(is_meant).map(|lent| lent.address.clone()).collect();
        if !found.is_empty() {
            return found.into_iter().collect();
        }
        let names: Vec<_> =
            self.lent.iter().map(|lent| format!("fd:{} systemd:{}", lent.number, visible(&lent.name))).collect();
        Err(match &names[..] {
            [] => "no such socket was inherited; start this from a socket unit, or write an address".to_owned(),
            _ => format!("no such socket was inherited, but {}", names.join(", ")),
        })
    }

    /// What the program that takes our place is to be told of these sockets, which it has under the same numbers.
    pub(super) fn describe(&self, handed: &[Handed], http: &[(Role, Handed)]) -> String {
        let entry = |number: String, name: &str, socket: &Handed| {
            let (descriptor, file) = (socket.socket.as_raw_fd(), if socket.has_file { "file" } else { "" });
            format!("{descriptor}:{number}:{}:{file}:{} ", visible(name), socket.at)
        };
        let http = http.iter().map(|(role, socket)| entry(String::new(), role.word(), socket));
        let handed =
            handed.iter().map(|socket| match self.lent.iter().find(|lent| lent.address.as_ref() == Ok(&socket.at)) {
                Some(lent) => entry(lent.number.to_string(), &lent.name, socket),
                None => entry(String::new(), "", socket),
            });
        http.chain(handed).collect()
    }
}

type Read = (Vec<Lent>, Vec<Inherited>, Vec<(Role, Inherited)>);

/// The entries of [`LISTENERS`].
fn read(list: &str) -> Result<Read, String> {
    let (mut lent, mut sockets, mut http) = (Vec::new(), Vec::new(), Vec::new());
    for entry in list.split_ascii_whitespace() {
        let wrong = || format!("{LISTENERS}: {entry:?} is no entry of it (it is set by a relay whose place is taken)");
        let Entry { descriptor, number, name, has_file, at } = Entry::read(entry).ok_or_else(wrong)?;
        let socket = match number {
            Some(_) => Inherited::lent(descriptor).map(Inherited::kept),
            None => Inherited::left(descriptor, at.clone(), has_file),
        };
        let socket = socket.map_err(|error| format!("{LISTENERS}: {entry}: {}", why(&error)))?;
        match Role::ALL.into_iter().find(|role| number.is_none() && role.word() == name) {
            Some(role) => http.push((role, socket)),
            None => sockets.push(socket),
        }
        lent.extend(number.map(|number| Lent { number, name, address: Ok(at) }));
    }
    Ok((lent, sockets, http))
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    descriptor: RawFd,
    /// The number under which it was lent. None: the relay before bound it.
    number: Option<RawFd>,
    name: String,
    has_file: bool,
    at: Address,
}

impl Entry {
    fn read(entry: &str) -> Option<Self> {
        let mut fields = entry.splitn(5, ':');
        let mut field = || fields.next();
        let (descriptor, number, name, file, at) = (field()?, field()?, field()?, field()?, field()?);
        let number = if number.is_empty() { None } else { Some(number.parse().ok()?) };
        let bytes = unescaped(at)?;
        let at = match bytes.strip_prefix(b"unix:") {
            // Behind a NUL, an abstract name.
            Some([b'@', name @ ..]) => Address::Unix([b"\0", name].concat().into()),
            Some(path) => Address::Unix(path.into()),
            None => at.parse().ok()?,
        };
        let name = String::from_utf8(unescaped(name)?).ok()?;
        Some(Self { descriptor: descriptor.parse().ok()?, number, name, has_file: file == "file", at })
    }
}

fn visible(name: &str) -> Visible<'_> {
    Visible(name.as_bytes())
}

/// What [`Visible`] shows, read back.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((before, code)) = rest.split_once("\\x") {
        bytes.extend(before.bytes());
        bytes.push(u8::from_str_radix(code.get(..2)?, 16).ok()?);
        rest = &code[2..];
    }
    bytes.extend(rest.bytes());
    Some(bytes)
}

/// The number of an error is of no use to a reader.
fn why(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) if number == rustix::io::Errno::BADF.raw_os_error() => "nothing is open there".to_owned(),
        Some(number) if number == rustix::io::Errno::NOTSOCK.raw_os_error() => "it is no socket".to_owned(),
        Some(_) | None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    fn handed(at: &Address, has_file: bool) -> Handed {
        Handed::new(at.clone(), Arc::new(OwnedFd::from(std::fs::File::open("/dev/null").unwrap())), has_file)
    }

    #[test]
    fn what_is_handed_over_is_read_as_it_was_written() {
        let odd = Address::Unix(b"/run/a b\\c:\xff"[..].into());
        let web: Address = "[::]:80".parse().unwrap();
        let lent = Lent { number: 3, name: "a b\\c".to_owned(), address: Ok(web.clone()) };
        let it = Inheritance { lent: Arc::new(vec![lent]) };
        for at in [web.clone(), odd, "127.0.0.1:0".parse().unwrap(), Address::Unix(b"\0a\0b"[..].into())] {
            let sockets = [handed(&at, at.is_unix()), handed(&at, false)];
            let list = it.describe(&sockets, &[]);
            let entries: Vec<_> = list.split_ascii_whitespace().map(|entry| Entry::read(entry).unwrap()).collect();
            let expected = sockets.iter().map(|socket| Entry {
                descriptor: socket.socket.as_raw_fd(),
                number: (at == web).then_some(3),
                name: if at == web { "a b\\c".to_owned() } else { String::new() },
                has_file: socket.has_file,
                at: at.clone(),
            });
            assert_eq!(entries, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_makes_no_sense_is_no_entry() {
        for text in
            ["", "7", "x::::127.0.0.1:80", "7:x:::127.0.0.1:80", "7::::nonsense", "7::\\xz:::", "7:3:web:127.0.0.1"]
        {
            assert_eq!(Entry::read(text), None, "{text}");
        }
        assert!(read("7::::nonsense").unwrap_err().contains("no entry"));
    }

    #[test]
    fn a_socket_that_was_not_lent_is_not_found() {
        let nothing = Inheritance::default();
        assert!(nothing.find(&Which::Number(3)).unwrap_err().contains("write an address"));
        let address: Address = "127.0.0.1:80".parse().unwrap();
        let web = |number| Lent { number, name: "web".to_owned(), address: Ok(address.clone()) };
        let two = Inheritance { lent: Arc::new(vec![web(3), web(4)]) };
        assert_eq!(two.find(&Which::Name("web".to_owned())).unwrap().len(), 2);
        assert_eq!(two.find(&Which::Number(4)), Ok(vec![address.clone()]));
        assert!(two.find(&Which::Number(5)).unwrap_err().ends_with("but fd:3 systemd:web, fd:4 systemd:web"));
    }
}
