//! [`Timestamp`]: when an event happened.

use std::{cell::Cell, fmt, time::Duration};

/// In a second.
const MICROS: i64 = 1_000_000;

/// A point in time, in whole microseconds since the Unix epoch; prints as RFC 3339 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The system clock's time.
    #[must_use]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Self(time.tv_sec * MICROS + i64::from(time.tv_nsec as i32) / 1_000)
    }

    /// The system clock's time.
    #[must_use]
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub fn now() -> Self {
        use std::time::{SystemTime, UNIX_EPOCH};
        let micros = |since: Duration| since.as_secs() as i64 * MICROS + i64::from(since.subsec_micros());
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Self(micros(since)),
            Err(before) => Self(-micros(before.duration())),
        }
    }

    /// From microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_micros(self) -> i64 {
        self.0
    }

    pub(crate) fn unix_millis(self) -> u64 {
        u64::try_from(self.0 / 1000).unwrap_or(0)
    }

    /// How long ago this was at `now`; zero if it lies ahead.
    #[must_use]
    pub fn age(self, now: Self) -> Duration {
        Duration::from_micros(u64::try_from(now.0.saturating_sub(self.0)).unwrap_or(0))
    }

    /// The [`age`](Self::age) in seconds.
    #[inline]
    pub(crate) fn age_seconds(self, now: Self) -> f64 {
        now.0.saturating_sub(self.0).max(0) as f64 / 1e6
    }

    /// Reads RFC 3339.
    ///
    /// # Errors
    /// If the text is not RFC 3339, or lies outside years −9999 to 9999.
    pub fn parse(text: &str) -> Result<Self, jiff::Error> {
        text.parse::<jiff::Timestamp>().map(|time| Self(time.as_microsecond()))
    }
}

thread_local! {
    /// The second of the last time that this thread has written, since the Unix epoch and as it was written: most are
    /// the same as the one before, and need no calendar.
    static LAST: Cell<(i64, [u8; SECOND])> = const { Cell::new((0, *b"1970-01-01T00:00:00")) };
}

/// `2026-01-31T23:59:59`
const SECOND: usize = 19;
/// `2026-01-31T23:59:59.123456Z`
const LONGEST: usize = SECOND + 8;

/// RFC 3339 in UTC, as [`Timestamp::encode`] writes it.
pub(crate) struct Rfc3339 {
    buffer: [u8; LONGEST],
    length: usize,
}

impl Rfc3339 {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Timestamp {
    /// Writes the time in UTC, with as many digits after the second as it needs; `None` outside of years 0 to 9999.
    pub(crate) fn encode(self) -> Option<Rfc3339> {
        let second = self.0.div_euclid(MICROS);
        let mut micros = self.0.rem_euclid(MICROS);
        let mut buffer = [0; LONGEST];
        buffer[..SECOND].copy_from_slice(&written(second)?);
        let mut length = SECOND;
        if micros > 0 {
            buffer[length] = b'.';
            let digits = &mut buffer[length + 1..length + 7];
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + (micros % 10) as u8;
                micros /= 10;
            }
            length += 1 + digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        }
        buffer[length] = b'Z';
        Some(Rfc3339 { buffer, length: length + 1 })
    }
}

/// A second since the Unix epoch as RFC 3339 writes it.
fn written(second: i64) -> Option<[u8; SECOND]> {
    let (last, text) = LAST.get();
    if last == second {
        return Some(text);
    }
    let text = jiff::Timestamp::from_second(second).ok()?.to_string();
    let text: [u8; SECOND] = text.strip_suffix('Z')?.as_bytes().try_into().ok()?;
    LAST.set((second, text));
    Some(text)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => fmt::Display::fmt(&time, f),
            Err(_) => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timestamps_round_trip_as_rfc_3339() {
        let time = Timestamp::from_unix_micros(1_700_000_000_123_456);
        assert_eq!(time.to_string(), "2023-11-14T22:13:20.123456Z");
        assert_eq!(Timestamp::parse("2023-11-14T23:13:20.123456+01:00").unwrap(), time);
        assert!(Timestamp::parse("yesterday").is_err());
    }

    fn encoded(micros: i64) -> Option<String> {
        let text = Timestamp::from_unix_micros(micros).encode()?;
        Some(String::from_utf8(text.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn years_of_more_than_four_digits_are_not_encoded() {
        let of = |text: &str| Timestamp::parse(text).unwrap().unix_micros();
        assert_eq!(encoded(of("0000-01-01T00:00:00Z")).unwrap(), "0000-01-01T00:00:00Z");
        assert_eq!(encoded(of("9999-12-30T21:59:59.5Z")).unwrap(), "9999-12-30T21:59:59.5Z");
        assert_eq!(encoded(of("0000-01-01T00:00:00Z") - 1), None);
        assert_eq!((encoded(i64::MAX), encoded(i64::MIN)), (None, None));
    }

    proptest! {
        #[test]
        fn encoding_writes_what_display_does(
            seconds in prop::collection::vec(prop_oneof![-3i64..3, 1_700_000_000i64..1_700_000_003, -60_000_000_000i64..250_000_000_000], 1..8),
            micros in prop::collection::vec(prop_oneof![0i64..1_000_000, (0i64..1_000).prop_map(|millis| millis * 1_000)], 1..8),
        ) {
            for second in seconds {
                for micros in &micros {
                    let micros = second * MICROS + micros;
                    prop_assert_eq!(encoded(micros).unwrap(), Timestamp::from_unix_micros(micros).to_string());
                }
            }
        }
    }
}
