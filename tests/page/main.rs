//! The page of `--admin`, as a browser shows it.
//!
//! ```console
//! $ cargo test --test page -- --ignored        # needs chromium, as in Debian's package of that name
//! ```
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::fs::File;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A route whose name looks like markup: the name of a Unix socket may be anything.
const MARKUP: &str = "<b>x<script>document.title='broken'<";

/// The colours of the page's two lines, `--up` and `--down`.
const UP: [u8; 3] = [0x00, 0xaa, 0x77];
const DOWN: [u8; 3] = [0x22, 0x77, 0xcc];

/// A program that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An upstream that says every second byte again.
fn answering_half() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut room = [0; 65536];
                while let Ok(count @ 1..) = stream.read(&mut room) {
                    let _ = stream.write_all(&room[..count / 2]);
                }
            });
        }
    });
    address
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(10));
    }
}

/// Chromium without a window.
fn browser(folder: &Path) -> Command {
    let mut browser = Command::new("chromium");
    browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,900"]);
    browser.arg(format!("--user-data-dir={}", folder.join("profile").display()));
    browser
}

/// What it says of a page that has had fifteen seconds of its own time.
fn chromium(folder: &Path, url: &str, what: &[&str]) -> String {
    let mut browser = browser(folder);
    browser.arg("--virtual-time-budget=15000");
    let output =
        browser.args(what).arg(url).stderr(Stdio::null()).output().unwrap_or_else(|error| panic!("chromium: {error}"));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// How many pixels have this colour, and in how many columns.
fn pixels(path: &Path, colour: [u8; 3]) -> (usize, usize) {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).unwrap())).read_info().unwrap();
    let mut image = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut image).unwrap();
    let step = info.color_type.samples();
    let width = info.width as usize;
    let hits: Vec<_> =
        image.chunks(step).enumerate().filter(|(_, pixel)| pixel[..3] == colour).map(|(at, _)| at % width).collect();
    let mut columns = hits.clone();
    columns.sort_unstable();
    columns.dedup();
    (hits.len(), columns.len())
}

#[test]
#[ignore = "needs chromium: see the head of this file"]
fn the_page_shows_the_graph_and_the_sessions_and_takes_no_name_for_markup() {
    let folder = tempfile::tempdir().unwrap();
    let (front, admin) = (free_port(), free_port());
    let socket = folder.path().join(MARKUP);
    let from = format!("127.0.0.1:{front},unix:{}", socket.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tproxy"));
    let to = answering_half().to_string();
    command.args(["-q", "-t", &to, "-f", &from, "--admin", &format!("127.0.0.1:{admin}")]);
    let relay = Running(command.spawn().unwrap());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let quiet = until(|| UnixStream::connect(&socket).ok());
        let mut speaker = until(|| TcpStream::connect(("127.0.0.1", front)).ok());
        speaker.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let is_over = &is_over;
        scope.spawn(move || {
            let (bytes, mut room) = (vec![7; 30_000], vec![0; 60_000]);
            while !is_over.load(Ordering::Relaxed) {
                let _ = speaker.write(&bytes);
                let _ = speaker.read(&mut room);
                thread::sleep(Duration::from_millis(20));
            }
        });
        let url = format!("http://127.0.0.1:{admin}/");
        let shot = folder.path().join("page.png");
        let dom = chromium(folder.path(), &url, &["--dump-dom"]);
        chromium(folder.path(), &url, &[&format!("--screenshot={}", shot.display())]);
        is_over.store(true, Ordering::Relaxed);
        drop(quiet);
        // What the browser made of it: two live sessions, each a row, and the name as text.
        let body = body(&dom, "sessions");
        assert_eq!(body.matches("<tr>").count(), 2, "{body}");
        let shown = MARKUP.replace('<', "&lt;").replace('>', "&gt;");
        assert!(body.contains(&shown) && dom.contains("<title>tproxy</title>"), "{body}");
        assert!(dom.contains("2 sessions, "), "{dom}");
        // The lines are there, and not only in the legend.
        for colour in [UP, DOWN] {
            let (count, columns) = pixels(&shot, colour);
            assert!(count > 100 && columns > 20, "{colour:?}: {count} pixels in {columns} columns");
        }
    });
    drop(relay);
}

/// The page, from who gives these answers to its questions: a status and a body. Without a status there is none.
fn stand_in(answer: impl Fn(&str) -> (&'static str, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut room = [0; 4096];
            let count = stream.read(&mut room).unwrap_or(0);
            let page = include_str!("../../src/control/admin/page.html");
            let policy = include_str!("../../src/control/admin/page.policy").trim();
            let target = String::from_utf8_lossy(&room[..count]).split(' ').nth(1).unwrap_or_default().to_owned();
            let (status, body) = if target == "/" { ("200 OK", page.to_owned()) } else { answer(&target) };
            if status.is_empty() {
                // No answer, and no end.
                std::mem::forget(stream);
                continue;
            }
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Security-Policy: {policy}\r\n");
            let _ = write!(stream, "{head}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        }
    });
    url
}

/// The rows of this table.
fn body<'a>(dom: &'a str, table: &str) -> &'a str {
    let table = dom.split(&format!("id=\"{table}\"")).nth(1).unwrap();
    table.split("<tbody>").nth(1).unwrap().split("</tbody>").next().unwrap()
}

/// The cells of each of its rows, with the class of a cell that has one.
fn cells(dom: &str, table: &str) -> Vec<String> {
    let lines = body(dom, table).split("</tr>").filter(|row| !row.is_empty());
    let lines = lines.map(|row| row.trim_start_matches("<tr>").replace("<td class=", "<td>class="));
    lines.map(|row| row.replace("<td>", "").replace("</td>", "|")).collect()
}

/// A relay that was there when the page came, and does not answer any more.
#[test]
#[ignore = "needs chromium: see the head of this file"]
fn the_page_says_when_there_is_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let url = stand_in(|_| ("503 Gone", "gone".to_owned()));
    let dom = chromium(folder.path(), &url, &["--dump-dom"]);
    assert!(dom.contains("no answer (503 gone): what is below is old"), "{dom}");
}

/// One question without an answer is not the end, and the next page begins where it is said to.
#[test]
#[ignore = "needs chromium: see the head of this file"]
fn the_page_asks_again_and_shows_each_session_of_each_page_once() {
    let folder = tempfile::tempdir().unwrap();
    let has_failed = AtomicBool::new(false);
    let session = |client: &&str| {
        format!(
            "{{\"route\":\"a\",\"client\":\"{client}\",\"upstream\":null,\"stage\":\"relaying\",\"age\":1,\"idle\":1,\
             \"up\":2,\"down\":3}}"
        )
    };
    let page = move |sessions: &[&str], next: &str| {
        let sessions: Vec<_> = sessions.iter().map(session).collect();
        ("200 OK", format!("{{\"live\":3,\"sessions\":[{}],\"next\":{next}}}", sessions.join(",")))
    };
    let url = stand_in(move |target| match target {
        "/routes" if !has_failed.swap(true, Ordering::Relaxed) => ("503 Busy", "busy".to_owned()),
        "/routes" => ("200 OK", "{\"live\":3,\"stopping\":false,\"up\":0,\"down\":0,\"routes\":[]}".to_owned()),
        // A page may have free places.
        "/sessions?from=0" => page(&["one", "two"], "700"),
        "/sessions?from=700" => page(&["three"], "null"),
        _ => ("404 Not Found", target.to_owned()),
    });
    let dom = chromium(folder.path(), &url, &["--dump-dom"]);
    assert!(dom.contains("<span id=\"state\" class=\"\">3 sessions, "), "{dom}");
    assert_eq!(body(&dom, "sessions").matches("<tr>").count(), 3, "{dom}");
    for client in ["one", "two", "three"] {
        assert_eq!(body(&dom, "sessions").matches(&format!("<td>{client}</td>")).count(), 1, "{client}: {dom}");
    }
}

/// Each number is another, so one in the place of another is seen.
#[test]
#[ignore = "needs chromium: see the head of this file"]
fn the_page_shows_what_the_answers_say_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let asked = AtomicUsize::new(0);
    let session = |client: &str, up: usize, down: usize| {
        format!(
            "{{\"route\":\"a\",\"client\":\"{client}\",\"upstream\":null,\"stage\":\"name\",\"age\":90,\"idle\":2.5,\
             \"up\":{up},\"down\":{down}}}"
        )
    };
    let routes = "{\"live\":3,\"stopping\":true,\"up\":700,\"down\":800,\"routes\":[\
        {\"route\":\"a\",\"listening\":\"[::]:80\",\"listed\":true,\"live\":3,\"sessions\":40,\"up\":100,\"down\":200,\
        \"ends\":{\"client-eof\":5,\"refused\":6},\"endpoints\":[\
        {\"host\":\"db:1\",\"address\":\"10.0.0.1:1\",\"down\":true,\"live\":1},\
        {\"host\":\"10.0.0.2:1\",\"address\":\"10.0.0.2:1\",\"down\":false,\"live\":2}]},\
        {\"route\":\"a\",\"listening\":\"[::]:81\",\"listed\":true,\"live\":0,\"sessions\":8,\"up\":3,\"down\":4,\
        \"ends\":{},\"endpoints\":[]},\
        {\"route\":\"b\",\"listening\":null,\"listed\":false,\"live\":0,\"sessions\":7,\"up\":1,\"down\":2048,\
        \"ends\":{\"client-eof\":2},\"endpoints\":[]}]}";
    let url = stand_in(move |target| match target {
        "/routes" => ("200 OK", routes.to_owned()),
        _ => {
            // The busiest, the quietest and the one between; each goes on as it began.
            let times = asked.fetch_add(1, Ordering::Relaxed);
            let all = [session("mid", 50 * times, 10), session("top", 900 * times, 20), session("low", 0, 30)];
            ("200 OK", format!("{{\"live\":3,\"sessions\":[{}],\"next\":null}}", all.join(",")))
        }
    });
    let dom = chromium(folder.path(), &url, &["--dump-dom"]);
    assert!(dom.contains("<span id=\"state\" class=\"bad\">stopping: the sessions finish</span>"), "{dom}");
    let shown = cells(&dom, "routes");
    // The first has 100 and 200 bytes of sessions that have ended, and what its living ones have now.
    assert!(shown[0].starts_with("a|[::]:80|3|40|") && shown[0].ends_with("|260 B||"), "{shown:?}");
    assert_eq!(
        shown[1..],
        [
            "|→ 10.0.0.1:1 (db:1)|1||||class=\"bad\">down|",
            "|→ 10.0.0.2:1|2||||up|",
            // Another listener of the same name: the living are in the row of the first.
            "a|[::]:81|0|8|3 B|4 B||",
            "b|-|0|7|1 B|2.0 KiB|removed, its sessions finish|",
        ]
    );
    assert_eq!(cells(&dom, "ends"), ["client-eof|7|", "refused|6|"]);
    let sessions = cells(&dom, "sessions");
    let clients: Vec<_> = sessions.iter().map(|row| row.split('|').nth(1).unwrap()).collect();
    assert_eq!(clients, ["top", "mid", "low"], "by their rates");
    assert_eq!(sessions[2], "a|low|-|name|1.5 min|2.5 s|0 B|30 B|0 B/s|");
    // Up is up, and down stands still.
    assert!(dom.contains("<span class=\"down\">down 0 B/s </span>") && !dom.contains(">up 0 B/s"), "{dom}");
}

/// A relay that takes a question and never answers it is asked again.
#[test]
#[ignore = "needs chromium: see the head of this file"]
fn the_page_does_not_wait_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let url = stand_in(move |target| {
        counted.fetch_add(usize::from(target == "/routes"), Ordering::Relaxed);
        ("", String::new())
    });
    // It stays open: with a budget of its own time, a page's clock stands still while it waits for an answer.
    let browser = browser(folder.path()).arg("--remote-debugging-port=0").arg(url).stderr(Stdio::null()).spawn();
    let _browser = Running(browser.unwrap_or_else(|error| panic!("chromium: {error}")));
    until(|| (asked.load(Ordering::Relaxed) > 1).then_some(()));
}
