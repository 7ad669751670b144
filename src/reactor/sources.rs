//! The addresses that a route's connections come from, in turn.
//!
//! Each has its own source ports to a destination, so several give more. One that has no port left, that this machine does not
//! have any more, or from which there is no way, is passed over. If none is left and one had no port, the session waits.

use std::io;
use std::net::IpAddr;

use log::{info, warn};

use super::upstreams::EndpointId;
use super::{Net, Reactor};
use crate::net::errno::{ConnectError, on_connect};
use crate::net::{Address, Token};

/// The source addresses of one route. None: the kernel chooses.
#[derive(Debug, Default)]
pub(super) struct Sources {
    v4: Family,
    v6: Family,
}

/// Those of one family.
#[derive(Debug, Default)]
struct Family {
    list: Box<[Source]>,
    /// The one whose turn it is.
    next: usize,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    address: IpAddr,
    /// This machine does not have it any more. That was said.
    is_gone: bool,
}

impl Sources {
    /// These, in this order.
    pub(super) fn new(list: &[IpAddr]) -> Self {
        let family = |is_ipv4: bool| {
            let its = list.iter().filter(|address| address.is_ipv4() == is_ipv4);
            Family { list: its.map(|address| Source { address: *address, is_gone: false }).collect(), next: 0 }
        };
        Self { v4: family(true), v6: family(false) }
    }

    /// Can something be connected to this address?
    pub(super) fn is_fit(&self, to: &Address) -> bool {
        let is_any = self.v4.list.is_empty() && self.v6.list.is_empty();
        is_any || self.of(to).is_none_or(|family| !family.list.is_empty())
    }

    /// Is none of those that could be connected to this address from this machine's any more?
    pub(super) fn are_gone(&self, to: &Address) -> bool {
        let list = self.of(to).map_or(&[][..], |family| &family.list);
        !list.is_empty() && list.iter().all(|source| source.is_gone)
    }

    /// How many there are to connect to this address from.
    fn count(&self, to: &Address) -> usize {
        self.of(to).map_or(0, |family| family.list.len())
    }

    /// The one whose turn it is, to connect to this address.
    fn next(&mut self, to: &Address) -> Option<IpAddr> {
        let Family { list, next } = if is_ipv4(to)? { &mut self.v4 } else { &mut self.v6 };
        let source = list.get(*next)?.address;
        *next = (*next + 1) % list.len();
        Some(source)
    }

    /// This machine has that address, or does not have it any more. Is that news?
    fn note(&mut self, source: IpAddr, is_gone: bool) -> bool {
        let mut all = self.v4.list.iter_mut().chain(&mut self.v6.list);
        let known = all.find(|known| known.address == source);
        known.is_some_and(|known| std::mem::replace(&mut known.is_gone, is_gone) != is_gone)
    }

    fn of(&self, to: &Address) -> Option<&Family> {
        is_ipv4(to).map(|is_ipv4| if is_ipv4 { &self.v4 } else { &self.v6 })
    }
}

/// None of a Unix socket, which is connected to from nowhere.
fn is_ipv4(to: &Address) -> Option<bool> {
    to.inet().map(|to| to.ip().to_canonical().is_ipv4())
}

impl<N: Net> Reactor<N> {
    /// Begins a connection to this endpoint from the source address whose turn it is, or from the first after it that has a
    /// port.
    pub(super) fn connect_from_sources(
        &mut self,
        route: u16,
        endpoint: EndpointId,
        token: Token,
    ) -> io::Result<N::Stream> {
        let (mut lack, mut unreachable) = (None, None);
        let count = self.routes.get(route).sources.count(self.upstreams.address(endpoint));
        for _ in 0..count.max(1) {
            let to = self.upstreams.address(endpoint);
            let source = self.routes.get_mut(route).sources.next(to);
            let result = self.net.connect(to, source, token);
            let meaning = result.as_ref().err().map(|error| on_connect(error, to));
            match (result, meaning, source) {
                (Ok(stream), _, source) => {
                    if let Some(source) = source {
                        self.note_source(route, source, None);
                    }
                    return Ok(stream);
                }
                // To have no port is less of a failure than to have no address: it passes by itself.
                (Err(error), Some(ConnectError::NoPorts), _) => lack = Some(error),
                (Err(error), Some(ConnectError::NoSource), Some(source)) => {
                    self.note_source(route, source, Some(&error));
                    lack.get_or_insert(error);
                }
                // Another may reach it: nothing leads from 127.0.0.1 to another machine.
                (Err(error), Some(ConnectError::Unreachable), Some(_)) => unreachable = Some(error),
                (Err(error), ..) => return Err(error),
            }
        }
        Err(lack.or(unreachable).unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
    }

    /// A source address was found to be there, or not to be there any more. Says so if it was otherwise before.
    fn note_source(&mut self, route: u16, source: IpAddr, error: Option<&io::Error>) {
        if self.routes.get_mut(route).sources.note(source, error.is_some()) {
            let about = self.about(route);
            match error {
                Some(error) => warn!(
                    "{about}cannot connect from {source}: {error}; the other addresses of `--source` are used, or sessions \
                     wait (give this machine that address again, or remove it from `--source`)"
                ),
                None => info!("{about}{source} can be connected from again"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(list: &[&str]) -> Sources {
        Sources::new(&list.iter().map(|address| address.parse().unwrap()).collect::<Vec<_>>())
    }

    fn to(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn those_of_the_family_take_turns() {
        let mut sources = sources(&["10.0.0.1", "::1", "10.0.0.2"]);
        let order = ["9.9.9.9:80", "[::2]:80", "9.9.9.8:80", "[::2]:81", "[::ffff:9.9.9.9]:80"];
        let order = order.map(|address| sources.next(&to(address)).unwrap().to_string());
        assert_eq!(order, ["10.0.0.1", "::1", "10.0.0.2", "::1", "10.0.0.1"]);
        assert_eq!((sources.count(&to("9.9.9.9:80")), sources.count(&to("[::2]:80"))), (2, 1));
    }

    #[test]
    fn without_any_the_kernel_chooses_for_all_and_with_one_only_its_family_is_fit() {
        let mut none = sources(&[]);
        assert_eq!((none.next(&to("9.9.9.9:80")), none.next(&to("[::2]:80"))), (None, None));
        assert!(none.is_fit(&to("9.9.9.9:80")) && none.is_fit(&to("[::2]:80")) && !none.are_gone(&to("[::2]:80")));
        let one = sources(&["10.0.0.1"]);
        assert!(one.is_fit(&to("9.9.9.9:80")) && !one.is_fit(&to("[::2]:80")));
        // A Unix socket has none, and needs none.
        let (unix, mut one) = (to("unix:/run/app"), one);
        assert!(one.is_fit(&unix) && !one.are_gone(&unix));
        assert_eq!((one.count(&unix), one.next(&unix)), (0, None));
    }

    #[test]
    fn that_an_address_is_gone_or_back_is_news_once() {
        let mut sources = sources(&["10.0.0.1", "10.0.0.2"]);
        let [one, two] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
        for (source, is_gone, is_news, all) in [
            (one, false, false, false),
            (one, true, true, false),
            (one, true, false, false),
            (two, true, true, true),
            (one, false, true, false),
            (one, false, false, false),
        ] {
            assert_eq!(sources.note(source, is_gone), is_news, "{source} {is_gone}");
            assert_eq!(sources.are_gone(&to("9.9.9.9:80")), all);
        }
    }
}
