//! [`Envelope`]: the CloudEvents attributes that identify an event.

use std::{fmt, str::Utf8Error};

use uuid::Uuid;

use crate::{name::Name, timestamp::Timestamp};

/// An event's id: unique together with its source (CloudEvents 1.0, "id").
///
/// Ids of our own are UUIDs of version 7, which sort by time; foreign ones may be any text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum EventId {
    /// A UUID, kept as its 16 bytes.
    Uuid(Uuid),
    /// Any other text.
    Text(Name),
}

impl EventId {
    /// A new id: UUID version 7, from the system clock and 74 random bits.
    #[must_use]
    pub fn generate() -> Self {
        Self::at(Timestamp::now())
    }

    pub(crate) fn at(time: Timestamp) -> Self {
        Self::from_parts(time, fastrand::u64(..), fastrand::u64(..))
    }

    /// RFC 9562, version 7: 48 bits of Unix milliseconds, the version, 12 random bits, the variant, 62 random bits.
    #[inline]
    pub(crate) fn from_parts(time: Timestamp, a: u64, b: u64) -> Self {
        let high = time.unix_millis() << 16 | 0x7000 | a & 0x0fff;
        let low = 1 << 63 | b >> 2;
        Self::Uuid(Uuid::from_u64_pair(high, low))
    }

    /// Reads an id; a UUID in its hyphenated lower-case form is kept compactly and prints as it was read.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self::canonical(text.as_bytes()).unwrap_or_else(|| Self::Text(Name::new(text)))
    }

    /// Reads an id as [`parse`](Self::parse) does.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Utf8Error> {
        match Self::canonical(bytes) {
            Some(id) => Ok(id),
            None => std::str::from_utf8(bytes).map(|text| Self::Text(Name::new(text))),
        }
    }

    /// A UUID in its hyphenated lower-case form.
    fn canonical(bytes: &[u8]) -> Option<Self> {
        // Of the forms that are read as a UUID only the hyphenated one has 36 characters.
        let has_upper_case = || bytes.iter().fold(false, |any, byte| any | byte.is_ascii_uppercase());
        if bytes.len() != 36 || has_upper_case() {
            return None;
        }
        Uuid::try_parse_ascii(bytes).ok().map(Self::Uuid)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => f.write_str(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// What identifies an event: the CloudEvents 1.0 attributes that every event has, and its time.
///
/// The optional attributes (`subject`, `dataschema`, extensions) are in [`Message::attributes`](crate::Message::attributes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// `id`: with [`source`](Self::source), what makes the event unique.
    pub id: EventId,
    /// `source`: who made the event, a URI reference.
    pub source: Name,
    /// `type`: the event's name, by which handlers are found.
    pub name: Name,
    /// `time`: when it happened.
    pub time: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_and_print_as_read() {
        let EventId::Uuid(uuid) = EventId::generate() else { panic!("generated ids are UUIDs") };
        assert_eq!(uuid.get_version_num(), 7);
        for text in ["01890a5d-ac96-774b-bcce-b302099a8057", "01890A5D-AC96-774B-BCCE-B302099A8057", "42", ""] {
            assert_eq!(EventId::parse(text).to_string(), text);
        }
    }
}
