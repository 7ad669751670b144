//! Vectors of the specification, every split of them at every byte, and bytes that nobody thought of.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

const V1_MIXED: &[u8] = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
const V1_LONGEST_4: &[u8] = b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n";
const V1_LONGEST_6: &[u8] =
    b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
const V1_LONGEST: &[u8] =
    b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a".as_slice(), &[command, family], &length, rest].concat()
}

const INET: [u8; 12] = [192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 0x01, 0xbb];

fn inet6() -> Vec<u8> {
    let mut block = vec![0; 36];
    block[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    (block[15], block[31]) = (1, 2);
    block[32..].copy_from_slice(&[0xdc, 0x04, 0x01, 0xbb]);
    block
}

fn ends(source: &str, destination: &str) -> Ends<'static> {
    Ends::Inet { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn unix() -> [u8; UNIX_PATHS] {
    unix_paths(b"/run/client", b"\0abstract")
}

/// TLVs as they are: a checksum, an id, and one whose length is wrong. Nobody looks at them.
const TLVS: &[u8] = b"\x03\0\x04\xd3\x99\xd8\xd8\x05\0\x041234\x20\xff\xffrest";

fn headers(paths: &[u8; UNIX_PATHS]) -> Vec<(Vec<u8>, Ends<'_>)> {
    let four = ends("192.168.0.1:56324", "192.168.0.11:443");
    let six = ends("[2001:db8::1]:56324", "[::2]:443");
    let all = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    let with = |block: &[u8]| [block, TLVS].concat();
    vec![
        (V1_MIXED.to_vec(), four),
        (V1_LONGEST_4.to_vec(), ends("255.255.255.255:65535", "255.255.255.255:65535")),
        (V1_LONGEST_6.to_vec(), ends(all, all)),
        (b"PROXY TCP6 2001:DB8::1 ::2 56324 443\r\n".to_vec(), six),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n".to_vec(), ends("1.2.3.4:0", "5.6.7.8:0")),
        (V1_UNKNOWN.to_vec(), Ends::Unknown),
        (V1_LONGEST.to_vec(), Ends::Unknown),
        (b"PROXY UNKNOWN \xff\0\n anything\r\n".to_vec(), Ends::Unknown),
        (v2(0x21, 0x11, &INET), four),
        (v2(0x21, 0x11, &with(&INET)), four),
        (v2(0x21, 0x21, &inet6()), six),
        (v2(0x21, 0x21, &with(&inet6())), six),
        (v2(0x21, 0x31, paths), Ends::Unix(paths)),
        (v2(0x21, 0x31, &with(paths)), Ends::Unix(paths)),
        (v2(0x21, 0x00, &[]), Ends::Unknown),
        (v2(0x21, 0x00, TLVS), Ends::Unknown),
        // Datagrams are not for a stream, and what LOCAL says of a family is to be ignored.
        (v2(0x21, 0x12, &INET), Ends::Unknown),
        (v2(0x21, 0x22, &inet6()), Ends::Unknown),
        (v2(0x21, 0x32, paths), Ends::Unknown),
        (v2(0x20, 0x00, &[]), Ends::Unknown),
        (v2(0x20, 0x11, &INET), Ends::Unknown),
        (v2(0x20, 0x11, &[]), Ends::Unknown),
        (v2(0x20, 0xff, TLVS), Ends::Unknown),
        (v2(0x21, 0x11, &[&INET[..], &[7; ACCEPTED_MAX - 28]].concat()), four),
    ]
}

#[test]
fn a_header_is_read_in_whatever_pieces_it_comes_and_nothing_behind_it() {
    let paths = unix();
    for (header, ends) in headers(&paths) {
        for split in 0..header.len() {
            assert_eq!(decode(&header[..split]), Decoded::Incomplete, "{split} of {header:?}");
        }
        for behind in [b"".as_slice(), b"G", b"\r\n", b"PROXY UNKNOWN\r\n", &[b'x'; 200]] {
            let bytes = [&header, behind].concat();
            assert_eq!(decode(&bytes), Decoded::Header { length: header.len(), ends }, "{bytes:?}");
        }
    }
}

/// As soon as it is: a client that sends something else and waits is not left waiting.
#[test]
fn what_is_no_header_is_known_at_the_first_byte_that_shows_it() {
    for (bytes, at) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), 1),
        (b"\x16\x03\x01\x02\x00\x01".to_vec(), 1),
        (b"PRI * HTTP/2.0\r\n".to_vec(), 3),
        (b"PROXYxTCP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(), 6),
        (b"PROXY\r\n".to_vec(), 6),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), 12),
        (b"\r\n\r\nX".to_vec(), 5),
        (v2(0x22, 0x11, &INET), 13),
        (v2(0x11, 0x11, &INET), 13),
        (v2(0x31, 0x11, &INET), 13),
        (v2(0x21, 0x41, &INET), 14),
        (v2(0x21, 0x13, &INET), 14),
        (v2(0x21, 0x10, &INET), 14),
        (v2(0x21, 0x01, &INET), 14),
        // Too short for its family, though enough bytes may follow.
        (v2(0x21, 0x11, &INET[..11]), 16),
        (v2(0x21, 0x12, &[]), 16),
        (v2(0x21, 0x21, &inet6()[..35]), 16),
        (v2(0x21, 0x31, &unix()[..215]), 16),
        (v2(0x21, 0x11, &[0; ACCEPTED_MAX - 15]), 16),
        (v2(0x20, 0x00, &[0; u16::MAX as usize]), 16),
    ] {
        for split in 0..bytes.len() {
            let expected = if split < at { Decoded::Incomplete } else { Decoded::Bad };
            assert_eq!(decode(&bytes[..split]), expected, "{split} of {bytes:?}");
        }
        let more = [bytes.as_slice(), &[0; 300]].concat();
        assert_eq!(decode(&more), Decoded::Bad, "{bytes:?}");
    }
}

#[test]
fn a_line_is_exactly_as_the_specification_has_it() {
    for line in [
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rX\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 00\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 -2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8  2\r\n",
        "PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        "PROXY TCP4 ::1 ::2 1 2\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP6 ::1 1.2.3.4 1 2\r\n",
        "PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY UNKNOW\r\n",
        "PROXY \r\n",
    ] {
        let bytes = format!("{line}{}", "x".repeat(200));
        assert_eq!(decode(bytes.as_bytes()), Decoded::Bad, "{line:?}");
    }
}

#[test]
fn a_line_has_at_most_107_bytes() {
    let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
    assert_eq!(decode(line(107).as_bytes()), Decoded::Header { length: 107, ends: Ends::Unknown });
    let long = line(108);
    for split in [107, 108] {
        assert_eq!(decode(&long.as_bytes()[..split]), Decoded::Bad);
    }
    assert_eq!(decode(&long.as_bytes()[..106]), Decoded::Incomplete);
    assert_eq!(decode("PROXY UNKNOWN ".repeat(100).as_bytes()), Decoded::Bad);
}

fn text(version: ProxyVersion, ends: Ends<'_>) -> String {
    String::from_utf8(encode(version, ends).bytes().to_vec()).unwrap()
}

#[test]
fn a_line_is_written_as_in_the_specification() {
    let v1 = |source, destination| text(ProxyVersion::V1, ends(source, destination));
    assert_eq!(v1("192.168.0.1:56324", "192.168.0.11:443").as_bytes(), V1_MIXED);
    assert_eq!(v1("[2001:db8::1]:56324", "[::2]:443"), "PROXY TCP6 2001:db8::1 ::2 56324 443\r\n");
    let mapped = v1("[::ffff:192.168.0.1]:56324", "[::ffff:192.168.0.11]:443");
    assert_eq!(mapped.as_bytes(), V1_MIXED, "mapped addresses are IPv4");
    assert_eq!(v1("10.0.0.1:1", "[2001:db8::1]:2"), "PROXY TCP6 ::ffff:10.0.0.1 2001:db8::1 1 2\r\n");
    assert_eq!(v1("[fe80::1%3]:1", "[fe80::2%3]:2"), "PROXY TCP6 fe80::1 fe80::2 1 2\r\n");
    assert_eq!(text(ProxyVersion::V1, Ends::Unknown), "PROXY UNKNOWN\r\n");
    assert_eq!(text(ProxyVersion::V1, Ends::Unix(&unix())), "PROXY UNKNOWN\r\n");
}

#[test]
fn a_binary_header_is_written_as_in_the_specification() {
    let v2_of = |ends| encode(ProxyVersion::V2, ends).bytes().to_vec();
    assert_eq!(v2_of(ends("192.168.0.1:56324", "192.168.0.11:443")), v2(0x21, 0x11, &INET));
    assert_eq!(v2_of(ends("[::ffff:192.168.0.1]:56324", "192.168.0.11:443")), v2(0x21, 0x11, &INET));
    assert_eq!(v2_of(ends("[2001:db8::1]:56324", "[::2]:443")), v2(0x21, 0x21, &inet6()));
    assert_eq!(v2_of(Ends::Unknown), v2(0x20, 0x00, &[]));
    assert_eq!(v2_of(Ends::Unix(&unix())), v2(0x21, 0x31, &unix()));
    let paths = unix();
    assert_eq!((&paths[..13], &paths[108..118]), (b"/run/client\0\0".as_slice(), b"\0abstract\0".as_slice()));
    assert_eq!(unix_paths(&[b'x'; 300], b"")[107..109], [b'x', 0], "a path that is too long is cut");
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_are_judged_without_a_panic_and_more_bytes_change_no_judgement(
        kind in 0..4_usize,
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        at in 0..400_usize,
    ) {
        let start: &[u8] = [b"".as_slice(), b"PROXY TCP4 ", b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n\x21"][kind];
        bytes.splice(..0, start.iter().copied());
        let (whole, part) = (decode(&bytes), decode(&bytes[..at.min(bytes.len())]));
        if part != Decoded::Incomplete {
            prop_assert_eq!(whole, part);
        }
        if let Decoded::Header { length, .. } = whole {
            prop_assert!(length <= bytes.len());
            prop_assert_eq!(decode(&bytes[..length]), whole, "nothing behind it is read");
            prop_assert_eq!(decode(&bytes[..length - 1]), Decoded::Incomplete);
        }
    }

    /// One byte of a good header is another.
    #[test]
    fn a_damaged_header_is_judged_without_a_panic(which in 0..24_usize, at in any::<usize>(), byte: u8) {
        let paths = unix();
        let (mut header, _) = headers(&paths).swap_remove(which);
        let at = at % header.len();
        header[at] = byte;
        for split in 0..header.len().min(300) {
            if let Decoded::Header { length, .. } = decode(&header[..split]) {
                prop_assert!(length <= split);
            }
        }
    }

    /// What is written is read again, here and by the crate.
    #[test]
    fn what_is_written_is_read(source in address(), destination in address()) {
        let ends = Ends::Inet { source, destination };
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let header = encode(version, ends);
            let bytes = header.bytes();
            let Decoded::Header { length, ends: Ends::Inet { source: from, destination: to } } = decode(bytes) else {
                panic!("{bytes:?}");
            };
            prop_assert_eq!((length, from.port(), to.port()), (bytes.len(), source.port(), destination.port()));
            prop_assert_eq!(from.ip().to_canonical(), source.ip().to_canonical());
            prop_assert_eq!(to.ip().to_canonical(), destination.ip().to_canonical());
            prop_assert_eq!(from.is_ipv4(), to.is_ipv4());
            let (theirs, count) = proxy_header::ProxyHeader::parse(bytes, proxy_header::ParseConfig::default()).unwrap();
            let theirs = theirs.proxied_address().unwrap();
            prop_assert_eq!((count, theirs.source, theirs.destination), (bytes.len(), from, to));
        }
    }
}
