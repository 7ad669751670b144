//! Every option of the relay, once: its name, its default, its help, and where it goes in the configuration.

use std::net::SocketAddr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use tproxy::{Config, ResetGrace, Splice};

use super::address::{Target, listen_address, target};
use super::quantity::{Timeout, buffer_size, drain_timeout, duration, duration_or_off, reset_grace};

/// The options of the relay. Those of the log and of the program itself are not among them.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// Address and port to listen on. [::]:PORT takes IPv4 too, port 0 lets the system choose
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:6101", value_parser = listen_address)]
    #[arg(help_heading = "Addresses", allow_hyphen_values = true)]
    from: SocketAddr,

    /// Address or name, and port, to connect to. A name is resolved once, and all its addresses are used
    #[arg(short, long, value_name = "ADDR", value_parser = target)]
    #[arg(help_heading = "Addresses", allow_hyphen_values = true)]
    to: Target,

    /// How long connecting to the upstream may take, attempts and pauses included. The remaining time is divided equally
    /// among the addresses still to be tried, so one dead address cannot use it all up
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    #[arg(help_heading = "Connecting", allow_hyphen_values = true)]
    connect_timeout: Duration,

    /// How often all the upstream's addresses are tried before the client is reset. Between two attempts there is a pause
    /// of about 100 ms, doubling to at most 1 s
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    #[arg(help_heading = "Connecting", allow_hyphen_values = true)]
    connect_attempts: u32,

    /// After the first FIN, reset both ends when no byte has moved in either direction for this long; or off
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration_or_off)]
    #[arg(help_heading = "Ending", allow_hyphen_values = true)]
    half_close_timeout: Timeout,

    /// Reset both ends when no byte has moved in either direction for this long; or off
    #[arg(long, value_name = "TIME", default_value = "off", value_parser = duration_or_off)]
    #[arg(help_heading = "Ending", allow_hyphen_values = true)]
    idle_timeout: Timeout,

    /// How long sessions may take to finish after SIGINT or SIGTERM; 0 resets them at once, off waits for ever
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = drain_timeout)]
    #[arg(help_heading = "Ending", allow_hyphen_values = true)]
    drain_timeout: Timeout,

    /// Before resetting a peer, wait this long for it to acknowledge more of the pending data. Every acknowledgement
    /// restarts the wait. auto: three times the connection's own retransmission time-out, at least 300ms and at most 5s
    #[arg(long, value_name = "TIME", default_value = "auto", value_parser = reset_grace)]
    #[arg(help_heading = "Ending", allow_hyphen_values = true)]
    reset_grace: ResetGrace,

    /// Bytes in a buffer, 4k to 16M. A direction has one only while it holds bytes
    #[arg(long, value_name = "SIZE", default_value = "64k", value_parser = buffer_size)]
    #[arg(help_heading = "Memory", allow_hyphen_values = true)]
    buffer_size: usize,

    /// Move bulk through a pipe in the kernel instead of copying it. auto: while the reads of a direction are large.
    /// At most 32 pipes are used; without a free pipe, bytes are copied. on makes small messages 50 % more expensive
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = splice())]
    #[arg(help_heading = "Memory", allow_hyphen_values = true)]
    splice: Splice,

    /// Sessions at a time. More clients wait in the kernel's queue [default: what the limit of open files allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(help_heading = "Limits", allow_hyphen_values = true)]
    max_sessions: Option<u32>,
}

impl Settings {
    /// The configuration they ask for. Resolves the upstream's name, and takes as long as that does.
    pub(crate) fn config(&self) -> Result<Config, String> {
        let mut config = Config::new(self.from, self.to.resolve()?);
        config.drain_timeout = self.drain_timeout.0;
        config.buffer_size = self.buffer_size;
        config.splice = self.splice;
        config.max_sessions = self.max_sessions.map(|sessions| sessions as usize);
        for route in &mut config.routes {
            route.connect_timeout = self.connect_timeout;
            route.connect_attempts = self.connect_attempts;
            route.half_close_timeout = self.half_close_timeout.0;
            route.idle_timeout = self.idle_timeout.0;
            route.reset_grace = self.reset_grace;
        }
        Ok(config)
    }
}

/// When to splice. The words are listed in the help and in the error for any other.
fn splice() -> impl TypedValueParser<Value = Splice> {
    PossibleValuesParser::new(["auto", "on", "off"]).map(|word| match word.as_str() {
        "on" => Splice::On,
        "off" => Splice::Off,
        _ => Splice::Auto,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    fn config(options: &str) -> Config {
        let line = Line::try_parse_from(format!("tproxy -t 127.0.0.1:80 {options}").split_whitespace()).unwrap();
        line.settings.config().unwrap()
    }

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let defaults = Config::new("127.0.0.1:6101".parse().unwrap(), ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(config(""), defaults);
    }

    /// Each option changes its own field, and nothing else.
    #[test]
    fn every_option_arrives_in_the_configuration() {
        let changed = |change: fn(&mut Config)| {
            let mut expected = config("");
            change(&mut expected);
            assert_ne!(expected, config(""), "the test changes something");
            expected
        };
        for (options, expected) in [
            ("-f [::1]:7", changed(|c| c.routes[0].from = "[::1]:7".parse::<SocketAddr>().unwrap().into())),
            ("--connect-timeout 7s", changed(|c| c.routes[0].connect_timeout = Duration::from_secs(7))),
            ("--connect-attempts 7", changed(|c| c.routes[0].connect_attempts = 7)),
            ("--half-close-timeout off", changed(|c| c.routes[0].half_close_timeout = None)),
            ("--idle-timeout 7s", changed(|c| c.routes[0].idle_timeout = Some(Duration::from_secs(7)))),
            ("--reset-grace 7s", changed(|c| c.routes[0].reset_grace = ResetGrace::Fixed(Duration::from_secs(7)))),
            ("--drain-timeout 0", changed(|c| c.drain_timeout = Some(Duration::ZERO))),
            ("--buffer-size 8k", changed(|c| c.buffer_size = 8 << 10)),
            ("--splice off", changed(|c| c.splice = Splice::Off)),
            ("--splice on", changed(|c| c.splice = Splice::On)),
            ("--max-sessions 7", changed(|c| c.max_sessions = Some(7))),
        ] {
            assert_eq!(config(options), expected, "{options}");
        }
    }
}
