//! The relays that are measured: tproxy, two on tokio, those installed on this machine, and no relay at all.
//!
//! Each has the configuration that its manual begins with, one worker process or thread where that can be configured,
//! and no log of connections. So tproxy runs with `-q` and no other option. Tuned ones are named so.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{During as _, Failure, Outcome, failed};
use crate::scrape;

const TPROXY: &str = env!("CARGO_BIN_EXE_tproxy");

/// A relay with its options, or none at all.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    /// None if clients connect straight to the upstream.
    pub(crate) program: Option<PathBuf>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Direct,
    Tproxy {
        arguments: &'static [&'static str],
    },
    /// One route of many, each of them to a name.
    Named,
    /// Somebody looks inside all the time.
    Scraped,
    Tokio {
        is_tuned: bool,
    },
    Haproxy {
        options: &'static [&'static str],
    },
    Nginx {
        module: Option<PathBuf>,
        options: &'static str,
    },
    Socat,
    Rinetd,
}

/// The baseline of every ratio.
pub(crate) const BASELINE: &str = "tproxy";

/// The same program, measured once more. Its difference from the baseline is noise.
pub(crate) const BASELINE_AGAIN: &str = "tproxy (again)";

/// With many routes, and a name as the upstream of each.
const NAMED: &str = "tproxy (named, 100 routes)";

/// The measured one and those beside it.
const NAMED_ROUTES: u8 = 100;

/// With a header of the PROXY protocol for the upstream, of this many bytes: 16, and the addresses of an IPv4 connection.
const SEND_PROXY: &str = "tproxy --send-proxy v2";
const HEADER: usize = 28;

/// With `--admin`, and somebody who asks there ten times a second.
const SCRAPED: &str = "tproxy (admin scraped 10/s)";

/// Where the upstream listens, if it is not to be found by name. Clients have another address, and relays a third.
const UPSTREAM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// The options for splicing from haproxy's manual.
const SPLICES: &[&str] = &["option splice-auto", "option splice-request", "option splice-response"];

/// The same with pipes and buffers of tproxy's sizes.
const TUNED: &[&str] = &[
    "option splice-auto",
    "option splice-request",
    "option splice-response",
    "tune.pipesize 1048576",
    "tune.bufsize 65536",
];

/// The contenders on this machine, and a warning for each that could not be built.
pub(crate) fn find(wanted: impl Fn(&str) -> bool) -> (Vec<Contender>, Vec<String>) {
    let (mut found, mut warnings) = (Vec::new(), Vec::new());
    let tproxy = tproxy();
    let tokio_version = version_of_tokio();
    let tokio = if ["tokio", "tokio (tuned)"].into_iter().any(&wanted) {
        build_tokio().unwrap_or_else(|Failure(why)| {
            warnings.push(format!("the tokio version could not be built: {why}"));
            Vec::new()
        })
    } else {
        Vec::new()
    };
    found.extend(tproxy);
    for program in tokio {
        for (name, is_tuned) in [("tokio", false), ("tokio (tuned)", true)] {
            let (program, kind) = (Some(program.clone()), Kind::Tokio { is_tuned });
            found.push(Contender { name, version: tokio_version.clone(), program, kind });
        }
    }
    found.extend(installed());
    found.push(Contender { name: "direct", version: String::new(), program: None, kind: Kind::Direct });
    found.retain(|contender| wanted(contender.name));
    (found, warnings)
}

fn tproxy() -> Vec<Contender> {
    let program = PathBuf::from(TPROXY);
    let version = version(&program, "--version");
    let of_kind = |name, kind| Contender { name, version: version.clone(), program: Some(program.clone()), kind };
    let entry = |name, arguments| of_kind(name, Kind::Tproxy { arguments });
    vec![
        entry(BASELINE, &["-q"] as &[_]),
        entry(BASELINE_AGAIN, &["-q"]),
        entry("tproxy --splice off", &["-q", "--splice", "off"]),
        entry(SEND_PROXY, &["-q", "--send-proxy", "v2"]),
        of_kind(NAMED, Kind::Named),
        of_kind(SCRAPED, Kind::Scraped),
    ]
}

fn installed() -> Vec<Contender> {
    let mut found = Vec::new();
    let mut add = |name, program: &Path, flag, kind| {
        found.push(Contender { name, version: version(program, flag), program: Some(program.to_owned()), kind });
    };
    if let Some(haproxy) = find_in_path("haproxy") {
        add("haproxy", &haproxy, "-v", Kind::Haproxy { options: &[] });
        add("haproxy (splice)", &haproxy, "-v", Kind::Haproxy { options: SPLICES });
        add("haproxy (tuned)", &haproxy, "-v", Kind::Haproxy { options: TUNED });
    }
    if let Some(nginx) = find_in_path("nginx")
        && let Some(module) = stream_module(&nginx)
    {
        add("nginx", &nginx, "-v", Kind::Nginx { module: module.clone(), options: "" });
        add("nginx (tuned)", &nginx, "-v", Kind::Nginx { module, options: "proxy_buffer_size 64k; " });
    }
    if let Some(socat) = find_in_path("socat") {
        add("socat", &socat, "-V", Kind::Socat);
    }
    if let Some(rinetd) = find_in_path("rinetd") {
        add("rinetd", &rinetd, "-v", Kind::Rinetd);
    }
    found
}

impl Contender {
    /// Neither tproxy nor the load alone.
    pub(crate) fn is_other_relay(&self) -> bool {
        !matches!(self.kind, Kind::Tproxy { .. } | Kind::Named | Kind::Scraped | Kind::Direct)
    }

    /// Does somebody look inside all the time?
    pub(crate) fn is_scraped(&self) -> bool {
        matches!(self.kind, Kind::Scraped)
    }

    /// Bytes that it sends the upstream before the client's.
    pub(crate) fn header(&self) -> usize {
        if self.name == SEND_PROXY { HEADER } else { 0 }
    }

    /// Where its upstream listens.
    pub(crate) fn upstream_host(&self) -> Ipv4Addr {
        match self.kind {
            // `localhost` is this on every machine.
            Kind::Named => Ipv4Addr::LOCALHOST,
            Kind::Direct
            | Kind::Tproxy { .. }
            | Kind::Scraped
            | Kind::Tokio { .. }
            | Kind::Haproxy { .. }
            | Kind::Nginx { .. }
            | Kind::Socat
            | Kind::Rinetd => UPSTREAM,
        }
    }

    /// Writes the configuration into the folder and returns the command line.
    pub(crate) fn command(&self, from: SocketAddr, to: SocketAddr, folder: &Path) -> Outcome<Vec<OsString>> {
        let Some(program) = &self.program else { return failed("there is no relay") };
        let path = folder.join("conf");
        let (conf, text) = (path.to_string_lossy().into_owned(), self.configuration(from, to, folder));
        if let Some(text) = text {
            fs::write(&path, text).during("writing its configuration")?;
        }
        let (from_text, to_text) = (from.to_string(), to.to_string());
        let addresses = ["-f", &from_text, "-t", &to_text].map(str::to_owned);
        let arguments = match &self.kind {
            Kind::Direct => Vec::new(),
            Kind::Tproxy { arguments } => {
                addresses.into_iter().chain(arguments.iter().map(|&word| word.into())).collect()
            }
            Kind::Named => named_routes(from, to).into_iter().chain(["-q".into()]).collect(),
            Kind::Scraped => {
                let admin = format!("unix:{}", scrape::socket(folder).display());
                addresses.into_iter().chain(["-q".into(), "--admin".into(), admin]).collect()
            }
            Kind::Tokio { is_tuned } => addresses.into_iter().chain(is_tuned.then(|| "--tuned".into())).collect(),
            Kind::Haproxy { .. } => vec!["-f".into(), conf],
            Kind::Nginx { .. } => {
                vec!["-p".into(), folder.to_string_lossy().into(), "-e".into(), "stderr".into(), "-c".into(), conf]
            }
            Kind::Socat => vec![
                // With the default backlog of 5, SYNs are dropped and clients repeat them only after a second.
                format!("TCP4-LISTEN:{},bind={},reuseaddr,backlog=1024,fork", from.port(), from.ip()),
                format!("TCP4:{to}"),
            ],
            Kind::Rinetd => vec!["-f".into(), "-c".into(), conf],
        };
        Ok([OsString::from(program)].into_iter().chain(arguments.into_iter().map(OsString::from)).collect())
    }

    fn configuration(&self, from: SocketAddr, to: SocketAddr, folder: &Path) -> Option<String> {
        match &self.kind {
            Kind::Direct | Kind::Tproxy { .. } | Kind::Named | Kind::Scraped | Kind::Tokio { .. } | Kind::Socat => None,
            Kind::Haproxy { options } => {
                let (tune, options): (Vec<_>, Vec<_>) = options.iter().partition(|option| option.starts_with("tune."));
                let lines =
                    |options: Vec<&&str>| options.iter().map(|option| format!("    {option}\n")).collect::<String>();
                Some(format!(
                    "global\n    nbthread 1\n{}\
                     defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 5m\n    timeout server 5m\n{}\
                     listen relay\n    bind {from}\n    server upstream {to}\n",
                    lines(tune),
                    lines(options)
                ))
            }
            Kind::Nginx { module, options } => {
                let module = module.as_ref().map(|path| format!("load_module {};\n", path.display()));
                Some(format!(
                    "{}daemon off;\nworker_processes 1;\npid {}/pid;\nerror_log stderr error;\n\
                     events {{ worker_connections 16384; }}\n\
                     stream {{ {options}server {{ listen {from}; proxy_pass {to}; }} }}\n",
                    module.unwrap_or_default(),
                    folder.display()
                ))
            }
            Kind::Rinetd => Some(format!("{} {} {} {}\n", from.ip(), from.port(), to.ip(), to.port())),
        }
    }
}

/// The route from `from`, in the middle of the others. All lead to the port of `to`, by name.
fn named_routes(from: SocketAddr, to: SocketAddr) -> Vec<String> {
    let upstream = format!("localhost:{}", to.port());
    let route = |number| {
        // Another address each, its port chosen by the kernel.
        let other = SocketAddr::from(([127, 0, 1, number], 0));
        let from = if number == NAMED_ROUTES / 2 { from } else { other };
        ["-f".to_owned(), from.to_string(), "-t".to_owned(), upstream.clone()]
    };
    (1..=NAMED_ROUTES).flat_map(route).collect()
}

/// None if nginx has no stream module, Some(None) if it is built in, else the module's path.
fn stream_module(nginx: &Path) -> Option<Option<PathBuf>> {
    let output = output_of(nginx, "-V");
    let mut words = output.split_whitespace();
    if words.clone().any(|word| word == "--with-stream") {
        return Some(None);
    }
    let folder = words.find_map(|word| word.strip_prefix("--modules-path="))?;
    let module = Path::new(folder).join("ngx_stream_module.so");
    module.exists().then_some(Some(module))
}

/// Builds benches/tokio_version.rs with the profile of this bench. Returns the program's path.
fn build_tokio() -> Outcome<Vec<PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["bench", "--bench", "tokio_version", "--no-run", "--message-format", "json-render-diagnostics"]);
    // This program is TARGET/release/deps/versus-HASH.
    if let Some(target) = std::env::current_exe()?.ancestors().nth(3) {
        command.arg("--target-dir").arg(target);
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().during("running cargo")?;
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let programs = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let programs = programs.filter(|message| message["target"]["name"] == "tokio_version");
    let programs: Vec<_> = programs.filter_map(|message| Some(message["executable"].as_str()?.into())).collect();
    if programs.is_empty() { failed(format!("cargo named no executable ({})", output.status)) } else { Ok(programs) }
}

fn version_of_tokio() -> String {
    let lock = include_str!("../../Cargo.lock");
    let entry = lock.split_once("name = \"tokio\"\nversion = \"").map(|(_, rest)| rest);
    entry.and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
}

/// The first word of the output that looks like a version, without a distribution's suffix.
fn version(program: &Path, flag: &str) -> String {
    let output = output_of(program, flag);
    let words = output.split(|c: char| c.is_whitespace() || c == '/');
    let mut versions = words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    versions.next().and_then(|word| word.split('-').next()).unwrap_or_default().to_owned()
}

/// What the program prints to stdout and stderr.
fn output_of(program: &Path, flag: &str) -> String {
    let output = Command::new(program).arg(flag).stdin(Stdio::null()).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    )
}

/// Searches PATH and the folders where servers are installed.
fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The path of strace, if it is installed.
pub(crate) fn strace() -> Option<PathBuf> {
    find_in_path("strace")
}
