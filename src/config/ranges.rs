//! What the settings may be.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Durations, where they are not off: a tick of the clock to a year. More is a mistake in the unit.
pub(crate) const DURATIONS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(365 * 24 * 60 * 60);

/// Bytes in a buffer: 4 KiB to 16 MiB.
pub(crate) const BUFFER_SIZES: RangeInclusive<usize> = 4 << 10..=16 << 20;

/// Addresses of an upstream that are used, at most.
pub(crate) const ADDRESSES_MAX: usize = 256;

/// Hosts of an upstream.
pub(crate) const HOSTS: RangeInclusive<usize> = 1..=ADDRESSES_MAX;

/// Routes of a relay.
pub(crate) const ROUTES: RangeInclusive<usize> = 1..=1024;

/// Networks of one list.
pub(crate) const NETWORKS_MAX: usize = 1024;

/// Idle times of SO_KEEPALIVE, in whole seconds: what the kernel takes (`MAX_TCP_KEEPIDLE`).
pub(crate) const KEEPALIVES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(32_767);

/// TCP_USER_TIMEOUT: the kernel takes milliseconds in an `int`.
pub(crate) const USER_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_millis(i32::MAX.unsigned_abs() as u64);

/// Source addresses of a route, at most.
pub(crate) const SOURCES_MAX: usize = 256;
