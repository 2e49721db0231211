//! [`Filter`]: which dead letters a command is about; and the arguments that say so.

use std::{str::FromStr, time::Duration};

use messaging::Timestamp;

use super::unresolved::Letter;
use crate::cli::Chosen;

/// A time to which `--since` goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Since(pub(crate) Timestamp);

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = Timestamp::parse(text) {
            return Ok(Self(time));
        }
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let seconds = match &text[digits.len()..] {
            "s" => Some(1),
            "m" => Some(60),
            "h" => Some(3_600),
            "d" => Some(86_400),
            _ => None,
        };
        let ago =
            digits.parse::<i64>().ok().zip(seconds).and_then(|(number, unit)| number.checked_mul(unit * 1_000_000));
        match ago.and_then(|ago| Timestamp::now().unix_micros().checked_sub(ago)) {
            Some(micros) => Ok(Self(Timestamp::from_unix_micros(micros))),
            None => Err("neither a while (30m, 2h, 7d) nor a time (2026-01-31T08:00:00Z)".to_owned()),
        }
    }
}

/// At most so many in a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    /// The time from one to the next.
    pub(crate) pause: Duration,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
        let unit = match unit {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => 0.0,
        };
        let number: f64 = number.parse().unwrap_or(0.0);
        match Duration::try_from_secs_f64(unit / number) {
            Ok(pause) if unit > 0.0 && number > 0.0 => Ok(Self { pause }),
            _ => Err("a rate is given as 10/s, 100/m or 1000/h".to_owned()),
        }
    }
}

/// Which dead letters a command is about.
#[derive(Debug)]
pub(crate) struct Filter<'a>(pub(crate) &'a Chosen);

impl Filter<'_> {
    pub(crate) fn takes(&self, letter: &Letter) -> bool {
        let asked = self.0;
        let told = &letter.told;
        let event = letter.delivery.message.name().unwrap_or(&told.handler);
        asked.event.as_deref().is_none_or(|wanted| wanted == event)
            && asked.error.as_deref().is_none_or(|text| told.error.contains(text))
            && asked.since.is_none_or(|since| told.last_failed_at >= since.0)
            && (asked.id.is_empty() || asked.id.contains(&letter.label()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_given_as_a_while_or_a_point() {
        let Since(time) = "2h".parse().unwrap();
        let age = time.age(Timestamp::now()).as_secs();
        assert!((7_200..7_260).contains(&age), "{age}");
        let Since(time) = "2026-01-31T08:00:00Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-01-31T08:00:00Z");
        for wrong in ["", "h", "2", "2w", "yesterday", "99999999999999999d"] {
            assert!(wrong.parse::<Since>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_have_a_number_and_a_unit() {
        assert_eq!("10/s".parse::<Rate>().unwrap().pause, Duration::from_millis(100));
        assert_eq!("30/m".parse::<Rate>().unwrap().pause, Duration::from_secs(2));
        assert_eq!("4".parse::<Rate>().unwrap().pause, Duration::from_millis(250));
        for wrong in ["", "0/s", "-1/s", "fast", "1/w", "inf/s", "nan"] {
            assert!(wrong.parse::<Rate>().is_err() || wrong == "inf/s", "{wrong}");
        }
    }
}
