//! Values of the options of sockets.

use std::net::IpAddr;
use std::time::Duration;

use tproxy::Route;

use super::quantity::{duration, whole_number};
use super::value::value;

value! {
    /// Clients in the kernel's queue.
    Backlog(u16) = backlog, "a number from 1 to 65535"
}
value! {
    /// An idle time, or off.
    Keepalive(Option<Duration>) = keepalive, "whole seconds, such as \"60s\", or \"off\""
}
value! {
    /// A time that the kernel takes, or off.
    UserTimeout(Option<Duration>) = user_timeout, "a time, such as \"30s\", or \"off\""
}
value! {
    /// Addresses to connect from.
    Sources(Vec<IpAddr>) = sources, "an IP address, such as \"192.0.2.7\""
}

fn backlog(text: &str) -> Result<u16, String> {
    let count = whole_number(text).and_then(|count| u16::try_from(count).ok());
    count.filter(|count| *count > 0).ok_or_else(|| "write a number from 1 to 65535".to_owned())
}

fn keepalive(text: &str) -> Result<Option<Duration>, String> {
    if text == "off" {
        return Ok(None);
    }
    let whole = |time: &Duration| Route::KEEPALIVES.contains(time) && time.subsec_nanos() == 0;
    let time = duration(text).ok().filter(whole);
    time.map(Some).ok_or_else(|| "write whole seconds from 1s to 32767s, such as 60s or 5m, or off".to_owned())
}

fn user_timeout(text: &str) -> Result<Option<Duration>, String> {
    if text == "off" {
        return Ok(None);
    }
    let time = duration(text).ok().filter(|time| Route::USER_TIMEOUTS.contains(time));
    time.map(Some).ok_or_else(|| "write a time between 1ms and 24days, such as 30s or 2m, or off".to_owned())
}

fn sources(text: &str) -> Result<Vec<IpAddr>, String> {
    let address = |word: &str| {
        let bare = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(word);
        bare.parse::<IpAddr>().map_err(|_| {
            format!(
                "{word:?} is no IP address; write addresses of this machine without a port, such as 192.0.2.7,192.0.2.8"
            )
        })
    };
    let list = text.split(',').map(|word| address(word.trim())).collect::<Result<Vec<_>, _>>()?;
    Route::check_sources(&list)?;
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_takes_is_read_and_what_it_does_not_take_is_not() {
        assert_eq!((backlog("1"), backlog("65535")), (Ok(1), Ok(65_535)));
        for text in ["", "0", "65536", "-1", "+7", "many"] {
            assert!(backlog(text).unwrap_err().contains("1 to 65535"), "{text:?}");
        }
        let seconds = Duration::from_secs;
        for (text, time) in [("1", Some(1)), ("5m", Some(300)), ("32767s", Some(32_767)), ("off", None)] {
            assert_eq!(keepalive(text), Ok(time.map(seconds)), "{text}");
        }
        for text in ["0", "1500ms", "999ms", "32768", "10h", "-1s", ""] {
            assert!(keepalive(text).unwrap_err().contains("1s to 32767s"), "{text:?}");
        }
        assert_eq!((user_timeout("24days"), user_timeout("off")), (Ok(Some(seconds(24 * 86_400))), Ok(None)));
        for text in ["0", "25days", "1us", "never"] {
            assert!(user_timeout(text).unwrap_err().contains("or off"), "{text:?}");
        }
    }

    #[test]
    fn sources_are_addresses_without_a_port() {
        let list = sources("192.0.2.7, ::1,[2001:db8::1]").unwrap();
        assert_eq!(list.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.7", "::1", "2001:db8::1"]);
        for (text, words) in [
            ("", "without a port"),
            ("192.0.2.7,", "without a port"),
            ("192.0.2.7:80", "\"192.0.2.7:80\" is no IP address"),
            ("eth0", "\"eth0\" is no IP address"),
            ("192.0.2.0/24", "is no IP address"),
            ("0.0.0.0", "no address of a machine"),
            ("::1,::1", "::1 is there twice"),
        ] {
            assert!(sources(text).unwrap_err().contains(words), "{text:?}: {}", sources(text).unwrap_err());
        }
    }
}
