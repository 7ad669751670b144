//! `--print socket`: the listeners as a socket unit, so that systemd keeps them open while the relay restarts.

use std::fmt::Write as _;

use super::address::Listen;
use super::print::Instances;
use super::routes::Draft;

/// The unit that listens where these routes do.
///
/// # Errors
/// In words, when a socket unit cannot say where that is.
pub(super) fn socket_unit(routes: &[Draft], instances: Instances) -> Result<String, String> {
    let mut lines = String::new();
    for draft in routes {
        let written = &draft.written;
        let stream = match &draft.from {
            Listen::Address(address) if address.port() == 0 => {
                return Err(format!("{written}: a socket unit needs a port; write 1 to 65535"));
            }
            Listen::Address(address) => address.to_string(),
            Listen::Unix(_) if instances == Instances::Several => {
                return Err(format!(
                    "{written}: each instance would need a Unix socket of its own; write an IP address"
                ));
            }
            Listen::Unix(_) => {
                let name = written.trim_start_matches("unix:");
                if !name.starts_with(['/', '@']) {
                    return Err(format!("{written}: a socket unit needs the path from the root; write unix:/..."));
                }
                if name.contains(char::is_control) || name.ends_with('\\') {
                    return Err(format!("{written:?}: a socket unit cannot have this path; choose another"));
                }
                name.replace('%', "%%")
            }
            Listen::Name(..) => {
                return Err(format!(
                    "{written}: a socket unit looks up no names; write an address, such as 127.0.0.1:6101"
                ));
            }
            Listen::Inherited(which) => {
                return Err(format!("{which}: it is the socket unit that says where; write that address"));
            }
        };
        let _ = writeln!(lines, "ListenStream={stream}");
    }
    let has_file = |draft: &&Draft| matches!(&draft.from, Listen::Unix(address) if address.path().is_some());
    let mut modes: Vec<_> = routes.iter().filter(has_file).map(|draft| draft.route.unix_mode).collect();
    modes.dedup();
    match modes[..] {
        [] => {}
        [mode] => drop(writeln!(lines, "SocketMode={mode:04o}")),
        _ => {
            return Err("a socket unit has one mode for all its files; give the routes the same --unix-mode".to_owned());
        }
    }
    let backlog = routes.iter().map(|draft| draft.route.backlog).max().unwrap_or_default();
    let (name, more) = match instances {
        Instances::One => ("tproxy", ""),
        Instances::Several => (
            "tproxy@",
            "\
# Each instance has a listener of its own at the same address, and the kernel spreads the clients. systemd keeps all of them
# open, so that no client is lost when one instance restarts.
ReusePort=yes
",
        ),
    };
    Ok(format!(
        "\
# To be saved as {name}.socket, beside {name}.service: see --print unit{}.
[Unit]
Description=Listeners of the TCP relay (tproxy)

[Socket]
{lines}Backlog={backlog}
BindIPv6Only=both
{more}
[Install]
WantedBy=sockets.target
",
        instances.suffix()
    ))
}
