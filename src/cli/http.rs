//! Where `--admin` and `--metrics` may listen.

use tproxy::net::Address;

use super::address::Listen;
use super::routes::Draft;
use crate::control::Role;

/// Nothing, or what is wrong with one of them. A route whose address is a name, or was inherited, tells at start.
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
        let route = || routes.iter().find(|draft| is_at(&draft.from, address)).map(|draft| draft.written.to_string());
        if let Some(taken) = other.or_else(route) {
            return Err(format!("{option}: that is taken by {taken}; choose another address or port"));
        }
    }
    Ok(())
}

/// Does this route listen where that address is?
fn is_at(from: &Listen, address: &Address) -> bool {
    match from {
        Listen::Address(from) => address.overlaps(&Address::from(*from)),
        Listen::Unix(from) => address.overlaps(from),
        Listen::Name(..) | Listen::Inherited(_) => false,
    }
}
