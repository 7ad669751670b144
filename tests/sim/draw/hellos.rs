//! Headers of the PROXY protocol: sent to upstreams, and accepted from proxies. From a source of its own, so that what else a
//! seed does is the same without.

use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use tproxy::{ProxyVersion, Route};

use super::{log, one_in, pause};
use crate::faults::{Call, Faults};
use crate::hello::{Announced, Hello, Is, binary};
use crate::keyed::mix;
use crate::plan::{Act, Plan};

/// In one of four seeds.
pub(super) fn hellos(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x0070_726f_7879));
    if !one_in(rng, 4) {
        return;
    }
    for route in &mut plan.config.routes {
        proxying(rng, route);
    }
    if let Faults::Drawn(odds) = &mut plan.faults
        && one_in(rng, 4)
    {
        odds[Call::Local.index()] = u16::try_from(log(rng, 50, 20_000)).unwrap();
    }
    for number in 0..plan.sessions.len() {
        let accepts = plan.config.routes.get(plan.sessions[number].place).is_some_and(|route| route.accept_proxy);
        // A header for a relay that expects none is payload.
        if !accepts && !one_in(rng, 4) || accepts && one_in(rng, 16) {
            continue;
        }
        let announced = announced(rng, plan.client(25_000 + number), number);
        let mut hello = header(rng, announced);
        let client = &mut plan.sessions[number].client;
        match rng.u8(..16) {
            0 | 1 => {
                hello.bytes.truncate(rng.usize(1..hello.bytes.len()));
                hello.is = Is::Part;
                client.acts = match rng.u8(..6) {
                    0 | 1 => Vec::new(),
                    2 => vec![Act::Pause(pause(rng)), Act::Fin],
                    3 => vec![Act::Fin],
                    4 => vec![Act::Close],
                    _ => vec![Act::Pause(pause(rng)), Act::Reset],
                };
            }
            2 | 3 => hello = garbage(rng),
            // Header and FIN.
            4 => client.acts = vec![Act::Fin],
            _ => {}
        }
        let acts = pieces(rng, hello.bytes.len());
        client.acts.splice(..0, acts);
        plan.sessions[number].hello = hello;
    }
}

/// Whether a route sends headers and accepts them, and from whom.
pub(super) fn proxying(rng: &mut Rng, route: &mut Route) {
    const BELIEVED: [&str; 6] =
        ["0.0.0.0/0,::/0", "10.0.0.0/8,2001:db8::/32", "10.0.0.0/8", "10.0.0.0/30,unix", "::/0,10.0.0.2/31", "unix"];
    route.send_proxy = [None, Some(ProxyVersion::V1), Some(ProxyVersion::V2)][rng.usize(..3)];
    route.accept_proxy = !one_in(rng, 3);
    route.proxy_from = Default::default();
    if route.accept_proxy {
        let which = if one_in(rng, 2) { rng.usize(..2) } else { rng.usize(..BELIEVED.len()) };
        route.proxy_from = BELIEVED[which].parse().unwrap();
    }
}

fn announced(rng: &mut Rng, client: SocketAddr, number: usize) -> Announced {
    match rng.u8(..8) {
        0 => Announced::Unknown,
        1 => {
            let mut paths = vec![0; 216];
            let name = format!("/run/{number}.sock");
            paths[108..108 + name.len()].copy_from_slice(name.as_bytes());
            Announced::Unix(paths)
        }
        _ => {
            let to: SocketAddr =
                if client.is_ipv4() { "192.0.2.7:443" } else { "[2001:db8:ffff::7]:443" }.parse().unwrap();
            Announced::Inet(client, to)
        }
    }
}

fn header(rng: &mut Rng, announced: Announced) -> Hello {
    // Nobody looks into them.
    let tlvs: Vec<u8> = (0..if one_in(rng, 3) { log(rng, 1, 3_800) } else { 0 }).map(|_| rng.u8(..)).collect();
    let version = match announced {
        Announced::Unix(_) => ProxyVersion::V2,
        Announced::Inet(..) | Announced::Unknown => [ProxyVersion::V1, ProxyVersion::V2][rng.usize(..2)],
    };
    Hello::header(version, announced, &tlvs)
}

/// What is no header, and the first byte that shows it.
fn garbage(rng: &mut Rng) -> Hello {
    let inet = [10, 0, 0, 1, 192, 0, 2, 7, 0x9c, 0x40, 0x01, 0xbb];
    let line = |text: &str| text.as_bytes().to_vec();
    let cases: [(Vec<u8>, usize); 12] = [
        (line("GET / HTTP/1.1\r\n\r\n"), 1),
        (line("PRI * HTTP/2.0\r\n\r\n"), 3),
        (line("PROXYxTCP4 10.0.0.1 192.0.2.7 40000 443\r\n"), 6),
        (line("PROXY TCP4 10.0.0.1 192.0.2.7 40000\r\n"), 37),
        (line("PROXY TCP4 10.0.0.1 192.0.2.7 +4000 443\r\n"), 41),
        (line("PROXY TCP4 10.0.0.1 192.0.2.7 40000 443\rX"), 41),
        (line(&format!("PROXY UNKNOWN {}\r\n", "x".repeat(92))), 107),
        (binary(0x22, 0x11, &inet), 13),
        (binary(0x11, 0x11, &inet), 13),
        (binary(0x21, 0x41, &inet), 14),
        (binary(0x21, 0x11, &inet[..11]), 16),
        (binary(0x21, 0x11, &[0; 4081]), 16),
    ];
    let (bytes, at) = cases[rng.usize(..cases.len())].clone();
    Hello { bytes, is: Is::Garbage(at) }
}

/// It comes at once, or in pieces.
fn pieces(rng: &mut Rng, length: usize) -> Vec<Act> {
    let (mut acts, mut left) = (Vec::new(), length);
    let slow = one_in(rng, 8);
    for _ in 0..if one_in(rng, 2) { 0 } else { rng.u8(1..=4) } {
        let part = rng.usize(..=left);
        if part > 0 {
            acts.push(Act::Send(u32::try_from(part).unwrap()));
            acts.push(Act::Pause(if slow { pause(rng) } else { Duration::from_micros(rng.u64(1..=2_000)) }));
        }
        left -= part;
    }
    if left > 0 {
        acts.push(Act::Send(u32::try_from(left).unwrap()));
    }
    acts
}
