//! [`Attributes`]: an event's attributes as they were found among its headers or in its JSON.

use smallvec::SmallVec;

use super::remembered::Remembered;
use crate::{
    envelope::{Envelope, EventId},
    headers::Headers,
    timestamp::Timestamp,
};

/// The attribute that a header holds: by the prefix of Kafka and ours, of HTTP, or of AMQP.
pub(super) fn attribute_name(header: &str) -> Option<&str> {
    match header.as_bytes() {
        [b'c', b'e', b'_' | b'-', ..] => header.get("ce_".len()..),
        [b'c', b'l', ..] => header.strip_prefix("cloudEvents_").or_else(|| header.strip_prefix("cloudEvents:")),
        _ => None,
    }
}

#[derive(Default)]
pub(super) struct Attributes<'a> {
    spec_version: Option<&'a [u8]>,
    id: Option<&'a [u8]>,
    source: Option<&'a [u8]>,
    name: Option<&'a [u8]>,
    time: Option<&'a [u8]>,
    /// Those that are no fields of the envelope.
    others: SmallVec<[(&'a str, &'a [u8]); 8]>,
}

impl<'a> Attributes<'a> {
    pub(super) fn add(&mut self, attribute: &'a str, value: &'a [u8]) {
        let field = match attribute {
            "specversion" => &mut self.spec_version,
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.name,
            "time" => &mut self.time,
            _ => return self.others.push((attribute, value)),
        };
        *field = Some(value);
    }

    /// Without a version there is no event.
    pub(super) fn is_event(&self) -> bool {
        self.spec_version.is_some()
    }

    /// The envelope, but for its time; `None` if nothing speaks of one.
    pub(super) fn envelope(&self, remembered: &mut Remembered) -> Result<Option<Envelope>, String> {
        let Some(version) = self.spec_version else { return Ok(None) };
        if !version.starts_with(b"1.") && version != b"1" {
            let version = String::from_utf8_lossy(version);
            return Err(format!("CloudEvents of version {version:?} are not known; 1.0 is"));
        }
        let mut name = |attribute, value| remembered.name(required(attribute, value)?).map_err(|_| no_text(attribute));
        Ok(Some(Envelope {
            id: EventId::read(required("id", self.id)?).map_err(|_| no_text("id"))?,
            source: name("source", self.source)?,
            name: name("type", self.name)?,
            time: None,
        }))
    }

    /// The time, if there is one.
    pub(super) fn time(&self, remembered: &mut Remembered) -> Result<Option<Timestamp>, String> {
        let Some(text) = self.time else { return Ok(None) };
        let time = remembered.time(text).ok_or_else(|| {
            let text = String::from_utf8_lossy(text);
            format!("the attribute \"time\" is not RFC 3339: {text:?}")
        });
        time.map(Some)
    }

    /// Those that are no fields of the envelope.
    pub(super) fn others(&self) -> Headers {
        self.others.iter().copied().collect()
    }

    /// Whether such an attribute has this value.
    pub(super) fn has(&self, attribute: &str, value: &[u8]) -> bool {
        self.others.contains(&(attribute, value))
    }
}

fn required<'a>(attribute: &str, value: Option<&'a [u8]>) -> Result<&'a [u8], String> {
    value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| format!("the required attribute {attribute:?} is missing or empty"))
}

fn no_text(attribute: &str) -> String {
    format!("the attribute {attribute:?} is not UTF-8")
}
