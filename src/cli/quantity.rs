//! Times, sizes and numbers as people write them.

use std::time::Duration;

use tproxy::{Config, ResetGrace};

use super::value::value;

value! {
    /// A time.
    Time(Duration) = duration, "a time, such as \"5s\""
}
value! {
    /// A time, or off.
    Timeout(Option<Duration>) = duration_or_off, "a time, such as \"5s\", or \"off\""
}
value! {
    /// A time, or off, or 0.
    DrainTimeout(Option<Duration>) = drain_timeout, "a time, such as \"5s\", or \"off\", or \"0\""
}
value! {
    /// A time, or 0.
    Delay(Duration) = delay, "a time, such as \"5s\", or \"0\""
}
value! {
    /// A time, or auto.
    Grace(ResetGrace) = reset_grace, "a time, such as \"5s\", or \"auto\""
}
value! {
    /// Bytes in a buffer.
    Size(usize) = buffer_size, "a size, such as \"64k\""
}
value! {
    /// Sessions at a time.
    Sessions(usize) = sessions, "a number of at least 1"
}
value! {
    /// How often connecting is tried.
    Attempts(u32) = attempts, "a number from 1 to 1000"
}
value! {
    /// How often a flag was given that may be given twice.
    Times(u8) = times, "0, 1 or 2"
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = if digits { text.parse().ok().map(Duration::from_secs) } else { humantime::parse_duration(text).ok() };
    match parsed {
        Some(duration) if Config::DURATIONS.contains(&duration) => Ok(duration),
        Some(_) | None => {
            Err("write a time between 1ms and 365 days, such as 5s, 1m30s or 250ms (plain digits are seconds)"
                .to_owned())
        }
    }
}

fn duration_or_off(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "off" => Ok(None),
        _ => duration(text).map(Some).map_err(|error| format!("{error}, or off")),
    }
}

fn reset_grace(text: &str) -> Result<ResetGrace, String> {
    match text {
        "auto" => Ok(ResetGrace::Auto),
        _ => duration(text).map(ResetGrace::Fixed).map_err(|error| format!("{error}, or auto")),
    }
}

fn drain_timeout(text: &str) -> Result<Option<Duration>, String> {
    let or_off = |text: &str| duration_or_off(text).map_err(|error| format!("{error}, or 0"));
    if is_zero(text) { Ok(Some(Duration::ZERO)) } else { or_off(text) }
}

fn delay(text: &str) -> Result<Duration, String> {
    let longer = |text: &str| duration(text).map_err(|error| format!("{error}, or 0"));
    if is_zero(text) { Ok(Duration::ZERO) } else { longer(text) }
}

fn is_zero(text: &str) -> bool {
    ["0", "0s", "0ms"].contains(&text)
}

/// Bytes, with k and M for 1024 and 1024².
fn buffer_size(text: &str) -> Result<usize, String> {
    let count = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[count.len()..] {
        "" | "B" => Some(1),
        "k" | "K" | "KiB" => Some(1 << 10),
        "m" | "M" | "MiB" => Some(1 << 20),
        _ => None,
    };
    let digits = count.bytes().all(|byte| byte.is_ascii_digit());
    match (count.parse::<usize>().ok().filter(|_| digits), unit) {
        (Some(count), Some(unit)) if Config::BUFFER_SIZES.contains(&count.saturating_mul(unit)) => Ok(count * unit),
        (Some(_), Some(_)) => Err("a buffer must be 4k to 16M".to_owned()),
        (None, _) | (_, None) => Err("not a size; write 4096, 64k or 1M (4k to 16M)".to_owned()),
    }
}

fn sessions(text: &str) -> Result<usize, String> {
    let count = whole_number(text).and_then(|count| usize::try_from(count).ok());
    count.filter(|count| *count > 0).ok_or_else(|| "write a number of at least 1".to_owned())
}

fn attempts(text: &str) -> Result<u32, String> {
    let count = whole_number(text).filter(|count| (1..=1000).contains(count));
    count.ok_or_else(|| "write a number from 1 to 1000".to_owned())
}

fn times(text: &str) -> Result<u8, String> {
    match text {
        "0" => Ok(0),
        "1" => Ok(1),
        "2" => Ok(2),
        _ => Err("write 0, 1 or 2".to_owned()),
    }
}

/// Digits: no sign.
pub(super) fn whole_number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, millis) in [
            ("5s", 5000),
            ("5", 5000),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("250ms", 250),
            ("1ms", 1),
            ("365days", 365 * 86_400_000),
            ("31536000", 365 * 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "0", "0s", "-5s", "-5", "999us", "366d", "31536001", "99999999999999999999", "5 parsecs", "off"]
        {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn some_times_can_be_off_and_the_drain_can_be_zero() {
        assert_eq!(duration_or_off("off"), Ok(None));
        assert_eq!(duration_or_off("1s"), Ok(Some(Duration::from_secs(1))));
        assert!(duration_or_off("0").unwrap_err().ends_with("or off"));
        for text in ["0", "0s", "0ms"] {
            assert_eq!(drain_timeout(text), Ok(Some(Duration::ZERO)));
        }
        assert_eq!(drain_timeout("off"), Ok(None));
        assert_eq!(drain_timeout("2s"), Ok(Some(Duration::from_secs(2))));
        assert!(drain_timeout("-1s").is_err());
    }

    #[test]
    fn the_grace_is_a_time_or_auto() {
        assert_eq!(reset_grace("auto"), Ok(ResetGrace::Auto));
        assert_eq!(reset_grace("2s"), Ok(ResetGrace::Fixed(Duration::from_secs(2))));
        for text in ["0", "off", "Auto", ""] {
            assert!(reset_grace(text).unwrap_err().ends_with("or auto"), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [("4k", 4096), ("4096", 4096), ("64k", 65536), ("64K", 65536), ("64KiB", 65536)] {
            assert_eq!(buffer_size(text), Ok(bytes), "{text}");
        }
        assert_eq!(buffer_size("16M"), Ok(16 << 20));
        for text in
            ["0", "4095", "3k", "17M", "16777217", "", "k", "64kb", "-64k", "+64k", "6.4k", "99999999999999999999M"]
        {
            assert!(buffer_size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_digits_within_their_range() {
        assert_eq!((sessions("7"), attempts("1000"), times("2")), (Ok(7), Ok(1000), Ok(2)));
        for text in ["", "0", "-1", "+1", "1.5", "many", "99999999999999999999"] {
            assert!(sessions(text).is_err() && attempts(text).is_err(), "{text:?}");
        }
        assert!(attempts("1001").is_err() && times("3").is_err() && times("").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        #[test]
        fn no_text_makes_a_parser_panic(text in any::<String>(), likely in "[0-9a-zA-Zµ.:+/\\[\\] -]{0,24}") {
            for text in [text, likely] {
                let _ = (duration(&text), duration_or_off(&text), drain_timeout(&text), buffer_size(&text));
                let _ = (reset_grace(&text), sessions(&text), attempts(&text), times(&text));
            }
        }

        #[test]
        fn a_time_that_was_printed_is_read_back(millis in 1_u64..=365 * 24 * 3600 * 1000) {
            let time = Duration::from_millis(millis);
            prop_assert_eq!(duration(&humantime::format_duration(time).to_string()), Ok(time));
            prop_assert_eq!(duration_or_off(&format!("{millis}ms")), Ok(Some(time)));
        }

        #[test]
        fn a_size_that_was_printed_is_read_back(bytes in 4096_usize..=16 << 20, kib in 4_usize..=16 << 10) {
            prop_assert_eq!(buffer_size(&bytes.to_string()), Ok(bytes));
            prop_assert_eq!(buffer_size(&format!("{kib}k")), Ok(kib << 10));
        }
    }
}
