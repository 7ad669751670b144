//! A request's line and headers, and the answer around a body. Pure.

use httparse::{EMPTY_HEADER, Request as Parsed, Status};

/// Bytes of a request's line and headers, at most.
pub(super) const HEAD_MAX: usize = 8 << 10;

/// Headers, at most.
const HEADERS_MAX: usize = 64;

/// A request that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Without the query.
    pub(super) path: String,
    pub(super) query: String,
    pub(super) host: Option<String>,
    /// It wants no body.
    pub(super) is_head: bool,
}

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// The beginning of a request.
    Partial,
    Whole(Request),
    /// To be answered with this.
    Wrong(Answer),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: &'static str,
    pub(super) kind: &'static str,
    pub(super) body: String,
    /// What a page may do, if it is one.
    pub(super) policy: &'static str,
}

/// Nothing may be loaded or run.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

impl Answer {
    pub(super) fn text(status: &'static str, body: impl Into<String>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: body.into(), policy: NOTHING }
    }

    pub(super) fn json(body: String) -> Self {
        Self { kind: "application/json", ..Self::text("200 OK", body) }
    }

    /// The bytes of it.
    pub(super) fn bytes(&self, is_head: bool) -> Vec<u8> {
        let Self { status, kind, body, policy } = self;
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nContent-Security-Policy: {policy}\r\n{allow}Connection: close\r\n\r\n",
            body.len()
        );
        let body = if is_head { "" } else { body };
        [head.as_bytes(), body.as_bytes()].concat()
    }
}

/// Reads the beginning of what came. The rest does not matter: a connection has one request.
pub(super) fn read(bytes: &[u8]) -> Read {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = Parsed::new(&mut headers);
    match parsed.parse(bytes) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) if bytes.len() < HEAD_MAX => return Read::Partial,
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Read::Wrong(Answer::text("431 Request Header Fields Too Large", "too many headers\n"));
        }
        Err(error) => return Read::Wrong(Answer::text("400 Bad Request", format!("this is not HTTP/1: {error}\n"))),
    }
    let is_head = match parsed.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Read::Wrong(Answer::text("405 Method Not Allowed", "only GET and HEAD\n")),
    };
    let mut hosts = parsed.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
    let host = hosts.next().map(|header| String::from_utf8_lossy(header.value).trim().to_owned());
    if hosts.next().is_some() {
        return Read::Wrong(Answer::text("400 Bad Request", "more than one Host\n"));
    }
    let (authority, target) = absolute(parsed.path.unwrap_or_default());
    let host = authority.or(host);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = if path.is_empty() { "/" } else { path };
    Read::Whole(Request { path: path.to_owned(), query: query.to_owned(), host, is_head })
}

/// The authority and the rest of a target in the absolute form, which every server has to understand, and whose authority
/// counts instead of `Host` (RFC 9112, 3.2.2). Any other target as it is.
fn absolute(target: &str) -> (Option<String>, &str) {
    match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (Some(authority.to_owned()), rest)
        }
        _ => (None, target),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(read: Read) -> &'static str {
        match read {
            Read::Wrong(answer) => answer.status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_may_come_in_any_pieces() {
        let whole =
            b"HEAD /sessions?from=3 HTTP/1.1\r\nAccept: */*\r\nhOsT:  localhost:9000 \r\n\r\nGET / HTTP/1.1\r\n";
        let end = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        for length in 0..=whole.len() {
            let expected = Request {
                path: "/sessions".to_owned(),
                query: "from=3".to_owned(),
                host: Some("localhost:9000".to_owned()),
                is_head: true,
            };
            let expected = if length < end { Read::Partial } else { Read::Whole(expected) };
            assert_eq!(read(&whole[..length]), expected, "{length}");
        }
    }

    #[test]
    fn a_target_may_name_its_host() {
        for (target, host, path, query) in [
            ("http://localhost:9/metrics?a=b", "localhost:9", "/metrics", "a=b"),
            ("HTTP://[::1]", "[::1]", "/", ""),
            ("http://evil.example?a", "evil.example", "/", "a"),
            ("/a?b=http://c/d", "other", "/a", "b=http://c/d"),
            ("https://localhost/", "other", "https://localhost/", ""),
        ] {
            let read = read(format!("GET {target} HTTP/1.1\r\nHost: other\r\n\r\n").as_bytes());
            let Read::Whole(request) = read else { panic!("{target}: {read:?}") };
            assert_eq!(
                (request.host.as_deref(), &*request.path, &*request.query),
                (Some(host), path, query),
                "{target}"
            );
        }
    }

    #[test]
    fn what_cannot_be_answered_is_refused() {
        assert_eq!(status(read(b"POST / HTTP/1.1\r\n\r\n")), "405 Method Not Allowed");
        assert_eq!(status(read(b"\x16\x03\x01\x02\x00\x01")), "400 Bad Request");
        assert_eq!(status(read(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")), "400 Bad Request");
        let long = format!("GET /{} HTTP/1.1", "x".repeat(HEAD_MAX));
        assert_eq!(read(&long.as_bytes()[..HEAD_MAX - 1]), Read::Partial);
        assert!(status(read(&long.as_bytes()[..HEAD_MAX])).starts_with("431"));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
        assert!(status(read(many.as_bytes())).starts_with("431"));
        let as_many_as_may_be = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(64));
        assert!(matches!(read(as_many_as_may_be.as_bytes()), Read::Whole(_)));
    }

    #[test]
    fn an_answer_is_not_kept_and_runs_nothing() {
        let text = String::from_utf8(Answer::text("405 Method Not Allowed", "no\n").bytes(false)).unwrap();
        for header in
            ["Allow: GET, HEAD", "Cache-Control: no-store", "X-Content-Type-Options: nosniff", "Connection: close"]
        {
            assert!(text.contains(&format!("\r\n{header}\r\n")), "{text}");
        }
        assert!(text.contains("default-src 'none'") && !text.to_lowercase().contains("access-control"), "{text}");
        assert!(text.contains("\r\nContent-Length: 3\r\n") && text.ends_with("\r\n\r\nno\n"));
        // Without a body, its length is said all the same (RFC 9110, 8.6).
        let head = String::from_utf8(Answer::text("200 OK", "no\n").bytes(true)).unwrap();
        assert!(head.contains("\r\nContent-Length: 3\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..HEAD_MAX)) {
            let _ = read(&bytes);
        }

        #[test]
        fn no_almost_right_request_makes_it_panic(
            method in "GET|HEAD|POST|[ -~]{0,5}",
            target in "[ -~]{0,40}",
            headers in prop::collection::vec("[ -~]{0,20}(:|: )[ -~]{0,20}", 0..70),
            cut in 0..4096_usize,
        ) {
            let text = format!("{method} {target} HTTP/1.1\r\n{}\r\n\r\n", headers.join("\r\n"));
            let _ = read(&text.as_bytes()[..cut.min(text.len())]);
        }
    }
}
