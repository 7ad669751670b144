//! Where `--admin` and `--metrics` may listen.

use tproxy::net::Address;

use super::address::Listen;
use super::routes::{Draft, overlap};
use crate::control::Role;

/// Says what is wrong with one of them, if anything is. What a name or an inherited socket of a route takes is told at start.
pub(super) fn check(http: &[(Role, Address)], routes: &[Draft]) -> Result<(), String> {
    for (index, (role, address)) in http.iter().enumerate() {
        let option = format!("--{} {address}", role.word());
        if !role.may_be(address) {
            return Err(format!(
                "{option}: it shows who the clients are, so it listens only for this machine; write 127.0.0.1:9000, \
                 [::1]:9000 or unix:/run/tproxy/admin.sock (--metrics may have any address)"
            ));
        }
        let other = http[..index].iter().find(|(_, other)| other.overlaps(address));
        let other = other.map(|(other, at)| format!("--{} {at}", other.word()));
        let route =
            || routes.iter().find(|draft| overlap(&draft.from, &listen(address))).map(|draft| draft.written.clone());
        if let Some(taken) = other.or_else(route) {
            return Err(format!("{option}: that is taken by {taken}; choose another address or port"));
        }
    }
    Ok(())
}

fn listen(address: &Address) -> Listen {
    address.inet().map_or_else(|| Listen::Unix(address.clone()), Listen::Address)
}
