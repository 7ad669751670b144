//! Who is measured: tproxy, the two on tokio, whatever relays this machine has, and no relay at all.
//!
//! Every one of them gets the configuration that its manual begins with, one process or thread that works where that
//! can be said, and no log of connections: so tproxy runs with `-q`, and nothing else.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{During as _, Failure, Outcome, failed};

const TPROXY: &str = env!("CARGO_BIN_EXE_tproxy");

/// Somebody in the race.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    /// None for the load alone, whose clients connect to the upstream.
    pub(crate) program: Option<PathBuf>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Direct,
    Tproxy { arguments: &'static [&'static str] },
    Tokio { is_tuned: bool },
    Haproxy { options: &'static [&'static str] },
    Nginx { module: Option<PathBuf>, options: &'static str },
    Socat,
    Rinetd,
}

/// The baseline of every ratio.
pub(crate) const BASELINE: &str = "tproxy";

/// The same program, measured once more: what differs from the baseline is noise.
pub(crate) const AGAIN: &str = "tproxy (again)";

/// What haproxy's manual has for splicing, and the same with the sizes of ours.
const SPLICES: &[&str] = &["option splice-auto", "option splice-request", "option splice-response"];
const TUNED: &[&str] = &[
    "option splice-auto",
    "option splice-request",
    "option splice-response",
    "tune.pipesize 1048576",
    "tune.bufsize 65536",
];

/// Everyone there is, and what is to be said about who is not.
pub(crate) fn find(wanted: impl Fn(&str) -> bool) -> (Vec<Contender>, Vec<String>) {
    let (mut found, mut warnings) = (Vec::new(), Vec::new());
    let tproxy = tproxy();
    let tokio_version = version_of_tokio();
    let tokio = if ["tokio", "tokio (tuned)"].into_iter().any(&wanted) {
        build_tokio().unwrap_or_else(|Failure(why)| {
            warnings.push(format!("no tokio version to compare with: {why}"));
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
    let entry = |name, arguments| {
        let (program, kind) = (Some(program.clone()), Kind::Tproxy { arguments });
        Contender { name, version: version.clone(), program, kind }
    };
    vec![
        entry(BASELINE, &["-q"] as &[_]),
        entry(AGAIN, &["-q"]),
        entry("tproxy --splice off", &["-q", "--splice", "off"]),
    ]
}

fn installed() -> Vec<Contender> {
    let mut found = Vec::new();
    let mut add = |name, program: &Path, flag, kind| {
        found.push(Contender { name, version: version(program, flag), program: Some(program.to_owned()), kind });
    };
    if let Some(haproxy) = on_path("haproxy") {
        add("haproxy", &haproxy, "-v", Kind::Haproxy { options: &[] });
        add("haproxy (splice)", &haproxy, "-v", Kind::Haproxy { options: SPLICES });
        add("haproxy (tuned)", &haproxy, "-v", Kind::Haproxy { options: TUNED });
    }
    if let Some(nginx) = on_path("nginx")
        && let Some(module) = stream_module(&nginx)
    {
        add("nginx", &nginx, "-v", Kind::Nginx { module: module.clone(), options: "" });
        add("nginx (tuned)", &nginx, "-v", Kind::Nginx { module, options: "proxy_buffer_size 64k; " });
    }
    if let Some(socat) = on_path("socat") {
        add("socat", &socat, "-V", Kind::Socat);
    }
    if let Some(rinetd) = on_path("rinetd") {
        add("rinetd", &rinetd, "-v", Kind::Rinetd);
    }
    found
}

impl Contender {
    /// The command line, after writing the configuration into the folder.
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
            Kind::Tokio { is_tuned } => addresses.into_iter().chain(is_tuned.then(|| "--tuned".into())).collect(),
            Kind::Haproxy { .. } => vec!["-f".into(), conf],
            Kind::Nginx { .. } => {
                vec!["-p".into(), folder.to_string_lossy().into(), "-e".into(), "stderr".into(), "-c".into(), conf]
            }
            Kind::Socat => vec![
                // The default backlog of 5 would make clients wait a second for the next SYN.
                format!("TCP4-LISTEN:{},bind={},reuseaddr,backlog=1024,fork", from.port(), from.ip()),
                format!("TCP4:{to}"),
            ],
            Kind::Rinetd => vec!["-f".into(), "-c".into(), conf],
        };
        Ok([OsString::from(program)].into_iter().chain(arguments.into_iter().map(OsString::from)).collect())
    }

    fn configuration(&self, from: SocketAddr, to: SocketAddr, folder: &Path) -> Option<String> {
        match &self.kind {
            Kind::Direct | Kind::Tproxy { .. } | Kind::Tokio { .. } | Kind::Socat => None,
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

/// Where nginx has its stream module: in itself (then there is no path), or where it looks for modules. None without
/// one.
fn stream_module(nginx: &Path) -> Option<Option<PathBuf>> {
    let built = said_by(nginx, "-V");
    let mut words = built.split_whitespace();
    if words.clone().any(|word| word == "--with-stream") {
        return Some(None);
    }
    let folder = words.find_map(|word| word.strip_prefix("--modules-path="))?;
    let module = Path::new(folder).join("ngx_stream_module.so");
    module.exists().then_some(Some(module))
}

/// Builds benches/tokio_version.rs as cargo built this: one program, or none if there is no cargo to ask.
fn build_tokio() -> Outcome<Vec<PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["bench", "--bench", "tokio_version", "--no-run", "--message-format", "json-render-diagnostics"]);
    // This is target/release/deps/versus-HASH, whatever the target folder is called.
    if let Some(target) = std::env::current_exe()?.ancestors().nth(3) {
        command.arg("--target-dir").arg(target);
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().during("running cargo")?;
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let programs = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let programs = programs.filter(|message| message["target"]["name"] == "tokio_version");
    let programs: Vec<_> = programs.filter_map(|message| Some(message["executable"].as_str()?.into())).collect();
    if programs.is_empty() { failed(format!("cargo built none ({})", output.status)) } else { Ok(programs) }
}

fn version_of_tokio() -> String {
    let lock = include_str!("../../Cargo.lock");
    let entry = lock.split_once("name = \"tokio\"\nversion = \"").map(|(_, rest)| rest);
    entry.and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
}

/// The first thing that looks like a version, without what a distribution adds to it.
fn version(program: &Path, flag: &str) -> String {
    let said = said_by(program, flag);
    let words = said.split(|c: char| c.is_whitespace() || c == '/');
    let mut versions = words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    versions.next().and_then(|word| word.split('-').next()).unwrap_or_default().to_owned()
}

/// What it prints, no matter where.
fn said_by(program: &Path, flag: &str) -> String {
    let output = Command::new(program).arg(flag).stdin(Stdio::null()).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    )
}

/// Where servers are installed is not always where users look.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Is there an strace?
pub(crate) fn strace() -> Option<PathBuf> {
    on_path("strace")
}
