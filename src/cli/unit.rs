//! `--print unit`: a service of systemd that starts the relay with the options given beside it. As a template it is for several
//! processes, each with the socket unit of its number.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use tproxy::Config;

use super::print::Instances;

/// Between the end of the drain and the moment when what is left is killed.
const SPARE: Duration = Duration::from_secs(5);

/// What it may do: listen, connect, and write below /run/tproxy.
const HARDENED: &str = "\
DynamicUser=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
# Ports below 1024.
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
";

/// The unit. The words are those that start the program, from any folder; one that has a file can be told to read it again.
pub(super) fn unit(
    words: &[OsString],
    has_file: bool,
    config: &Config,
    instances: Instances,
) -> Result<String, String> {
    let start = without_print(words).into_iter().map(quoted).collect::<Result<Vec<_>, _>>()?.join(" ");
    let reload = if has_file { "ExecReload=/bin/kill -HUP $MAINPID\n" } else { "" };
    let stop = config
        .drain_timeout
        .map_or_else(|| "infinity".to_owned(), |drain| format!("{}s", seconds_to_stop(config.drain_delay, drain)));
    let (requires, folder) = match instances {
        Instances::One => ("", "tproxy"),
        Instances::Several => ("Requires=tproxy@%i.socket\nAfter=tproxy@%i.socket\n", "tproxy-%i"),
    };
    Ok(format!(
        "\
[Unit]
Description=TCP relay (tproxy)
{requires}Wants=network-online.target
After=network-online.target nss-lookup.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={start}
{reload}WatchdogSec=30
TimeoutStopSec={stop}
# 4: the drain was over, and sessions were reset.
SuccessExitStatus=4
Restart=on-failure
RestartSec=2
LimitNOFILE=65536
# For Unix sockets, --port-file and the like. It may write nowhere else.
RuntimeDirectory={folder}
{HARDENED}
[Install]
WantedBy=multi-user.target
"
    ))
}

/// How long a supervisor waits before it kills, in whole seconds.
pub(super) fn seconds_to_stop(delay: Duration, drain: Duration) -> u128 {
    (delay + drain + SPARE).as_millis().div_ceil(1000)
}

/// The words without `--print unit`.
pub(super) fn without_print(options: &[OsString]) -> Vec<&OsStr> {
    let mut options = options.iter().map(OsString::as_os_str);
    let mut left = Vec::new();
    while let Some(option) = options.next() {
        if option == "--print" {
            // Its value.
            options.next();
        } else if !option.to_string_lossy().starts_with("--print=") {
            left.push(option);
        }
    }
    left
}

/// As a word of ExecStart (`systemd.service(5)`, command lines).
fn quoted(word: impl AsRef<OsStr>) -> Result<String, String> {
    let word = word.as_ref().to_str().ok_or("a unit is UTF-8, and a word of the command line is not")?;
    let plain = word.replace('%', "%%").replace('$', "$$");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@[]%$+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Ok(plain);
    }
    if word.contains(char::is_control) {
        return Err(format!("{word:?} has a control character, which a unit cannot have"));
    }
    Ok(format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    fn config() -> Config {
        Config::of([])
    }

    #[test]
    fn it_starts_with_the_words_beside_it() {
        let words = words(&["/usr/bin/tproxy", "--print", "unit", "-f", ":80", "-t", "unix:/run/a b", "--print=unit"]);
        let unit = unit(&words, false, &config(), Instances::One).unwrap();
        assert!(unit.contains("\nExecStart=/usr/bin/tproxy -f :80 -t \"unix:/run/a b\"\n"), "{unit}");
        assert!(unit.contains("\nTimeoutStopSec=20s\n") && !unit.contains("ExecReload"), "{unit}");
    }

    #[test]
    fn a_file_can_be_read_again_and_the_drain_has_its_time() {
        let words = words(&["/usr/bin/tproxy", "-c", "/etc/r.toml", "--print", "unit"]);
        let mut config = config();
        (config.drain_delay, config.drain_timeout) = (Duration::from_millis(1500), Some(Duration::from_secs(60)));
        let text = unit(&words, true, &config, Instances::One).unwrap();
        assert!(text.contains("\nExecStart=/usr/bin/tproxy -c /etc/r.toml\n"), "{text}");
        let lines = "\nExecReload=/bin/kill -HUP $MAINPID\nWatchdogSec=30\nTimeoutStopSec=67s\n";
        assert!(text.contains(lines), "{text}");
        config.drain_timeout = None;
        assert!(unit(&words, false, &config, Instances::One).unwrap().contains("\nTimeoutStopSec=infinity\n"));
    }

    #[test]
    fn what_systemd_would_replace_is_written_so_that_it_does_not() {
        for (word, expected) in [
            ("a%n", "a%%n"),
            ("$HOME", "$$HOME"),
            ("a\"b\\", "\"a\\\"b\\\\\""),
            ("", "\"\""),
            ("a;b", "\"a;b\""),
            ("o'neil", "\"o'neil\""),
            ("a b%n$c", "\"a b%%n$$c\""),
        ] {
            assert_eq!(quoted(word).unwrap(), expected);
        }
        assert!(quoted("a\nb").unwrap_err().contains("control character"));
    }
}
