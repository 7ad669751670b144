//! Name lookups, on threads of their own: getaddrinfo(3) blocks.

use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;

use crate::net::Control;
use crate::net::message::{Answer, Message, NameId};

/// Asks the system's resolver; the answer comes as a message.
pub(super) fn resolve(control: &Control, name: NameId, host: &str) {
    let (asked, of) = (control.clone(), host.to_owned());
    let thread = move || asked.say(Message::Resolved { name, answer: look_up(&of) });
    if let Err(error) = thread::Builder::new().name("resolver".into()).spawn(thread) {
        control.say(Message::Resolved { name, answer: Err(format!("no thread to look it up: {error}")) });
    }
}

/// All addresses behind a name, each once.
fn look_up(host: &str) -> Answer {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in (host, 0).to_socket_addrs().map_err(|error| error.to_string())? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err("the name has no address".to_owned()) } else { Ok(addresses) }
}
