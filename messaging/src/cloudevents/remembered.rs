//! [`Remembered`]: what the messages of one consumer mostly have in common, so that it is read and kept once.

use std::str::Utf8Error;

use crate::{name::Name, timestamp::Timestamp};

/// How many names are remembered.
const NAMES: usize = 16;
/// `2026-01-31T23:59:59`
const SECOND: usize = 19;

#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Event names, sources and media types of the messages before: the next ones mostly have the same.
    names: Vec<Name>,
    /// Which of them gives way next.
    oldest: usize,
    /// The second of the last time, as it stood there and in microseconds since the Unix epoch.
    second: ([u8; SECOND], i64),
}

impl Remembered {
    /// The name of this text: the one that was read before, if it is remembered.
    pub(super) fn name(&mut self, text: &[u8]) -> Result<Name, Utf8Error> {
        if let Some(known) = self.names.iter().find(|known| known.as_bytes() == text) {
            return Ok(known.clone());
        }
        let name = Name::new(std::str::from_utf8(text)?);
        if self.names.len() < NAMES {
            self.names.push(name.clone());
        } else {
            self.names[self.oldest] = name.clone();
            self.oldest = (self.oldest + 1) % NAMES;
        }
        Ok(name)
    }

    /// Reads RFC 3339. In UTC and to the microsecond, as nearly everybody writes it, only a second that is not the one of
    /// the message before is looked up in the calendar.
    pub(super) fn time(&mut self, text: &[u8]) -> Option<Timestamp> {
        let parts = text.split_first_chunk::<SECOND>();
        let parts = parts.and_then(|(second, fraction)| Some((second, micros(fraction)?)));
        if let Some((second, micros)) = parts
            && *second == self.second.0
        {
            return Some(Timestamp::from_unix_micros(self.second.1 + micros));
        }
        let time = Timestamp::parse(std::str::from_utf8(text).ok()?).ok()?;
        // There are other forms of as many characters.
        if let Some((second @ [_, _, _, _, b'-', .., b':', _, _], micros)) = parts {
            self.second = (*second, time.unix_micros() - micros);
        }
        Some(time)
    }
}

/// What follows a second in UTC, in microseconds: nothing, or a point and up to six digits.
fn micros(fraction: &[u8]) -> Option<i64> {
    let digits = match fraction {
        b"Z" => return Some(0),
        [b'.', digits @ .., b'Z'] if (1..=6).contains(&digits.len()) => digits,
        _ => return None,
    };
    let mut micros = 0;
    for place in 0..6 {
        let digit = digits.get(place).map_or(Some(0), |digit| char::from(*digit).to_digit(10))?;
        micros = micros * 10 + i64::from(digit);
    }
    Some(micros)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_kept_once() {
        let mut remembered = Remembered::default();
        let first = remembered.name(b"a").unwrap();
        assert!(first.is_same(&remembered.name(b"a").unwrap()));
        for index in 0..NAMES * 2 {
            assert_eq!(remembered.name(index.to_string().as_bytes()).unwrap(), index.to_string().as_str());
        }
        assert!(remembered.name(&[0xff]).is_err());
    }

    fn read(remembered: &mut Remembered, text: &str) -> Option<i64> {
        remembered.time(text.as_bytes()).map(Timestamp::unix_micros)
    }

    fn parsed(text: &str) -> Option<i64> {
        Timestamp::parse(text).ok().map(Timestamp::unix_micros)
    }

    #[test]
    fn times_of_other_forms_are_not_taken_for_the_second_before() {
        let mut remembered = Remembered::default();
        for text in [
            "2026-11-28T22:01:05Z",
            "2026-11-28T22:01:05.5Z",
            "2026-11-28T22:01:05+01:00",
            "2026-11-28T22:01:05.1234567Z",
            "2026-11-28T22:01:05.Z",
            "2026-11-28T22:01:05.12a4Z",
            "2026-11-28T22:01:05.12",
            "2026-11-28T22:01:05",
            // As long as a second, but a minute.
            "+002026-11-28T22:01Z",
            "+002026-11-28T22:01.5Z",
            "1969-12-31T23:59:59.5Z",
            "1969-12-31T23:59:59.25Z",
            "1969-12-31T23:59:59.2500009Z",
            "2016-12-31T23:59:60Z",
            "2016-12-31T23:59:60.25Z",
            "",
            "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}Z",
        ] {
            assert_eq!(read(&mut remembered, text), parsed(text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn times_are_read_as_the_calendar_says(
            texts in prop::collection::vec(("20[0-9]{2}-(0[1-9]|11)-(2[89]|3[01])T[0-2]3:5[89]:(59|60)", "(\\.[0-9]{1,7})?(Z|z|-02:00)"), 1..8),
            repeated in prop::collection::vec(any::<prop::sample::Index>(), 1..16),
        ) {
            let mut remembered = Remembered::default();
            for index in repeated {
                let (second, _) = index.get(&texts);
                for (_, fraction) in &texts {
                    let text = format!("{second}{fraction}");
                    prop_assert_eq!(read(&mut remembered, &text), parsed(&text), "{}", text);
                }
            }
        }
    }
}
