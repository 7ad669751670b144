//! The names of listeners.

use std::collections::HashMap;
use std::net::SocketAddr;

use tproxy::net::mio;

/// For each of these names: those of its addresses that are this machine's, each once. Asks the system's resolver, once for
/// each name, and takes as long as that does.
pub(super) fn ours(names: &[String]) -> Vec<Result<Vec<SocketAddr>, String>> {
    let mut known: HashMap<&str, Result<Vec<SocketAddr>, String>> = HashMap::new();
    names.iter().map(|name| known.entry(name).or_insert_with(|| look_up(name)).clone()).collect()
}

fn look_up(name: &str) -> Result<Vec<SocketAddr>, String> {
    let found = mio::look_up(name).map_err(|why| format!("the name does not resolve: {why}"))?;
    let (ours, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| mio::is_ours(*address));
    match others.first() {
        Some(other) if ours.is_empty() => {
            Err(format!("none of its addresses, such as {}, is this machine's", other.ip()))
        }
        Some(_) | None => Ok(ours),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_each_loopback_address_of_ours_once() {
        let names = ["localhost".to_owned(), "localhost".to_owned()];
        let answers = ours(&names);
        assert_eq!((answers.len(), &answers[0]), (2, &answers[1]));
        let found = answers[0].as_ref().unwrap();
        assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
        assert!(found.iter().enumerate().all(|(index, address)| !found[..index].contains(address)), "{found:?}");
    }

    #[test]
    fn a_name_of_another_machine_is_no_place_to_listen() {
        // TEST-NET-1, which is nobody's (RFC 5737). An address is a name that needs no lookup.
        let answers = ours(&["192.0.2.1".to_owned(), "no-such-host.invalid".to_owned()]);
        assert!(answers[0].as_ref().unwrap_err().contains("192.0.2.1, is this machine's"), "{answers:?}");
        assert!(answers[1].as_ref().unwrap_err().contains("does not resolve"), "{answers:?}");
    }
}
