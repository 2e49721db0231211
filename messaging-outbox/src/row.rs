//! A message as columns of a row, and back: the columns that people look at, and the rest of it as JSON in `head`.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use messaging::{Envelope, Error, ErrorKind, EventId, Headers, Message, Name, Timestamp};
use serde::{Deserialize, Serialize};

/// When a row is to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    /// At this time, in microseconds since 1970.
    At(i64),
    /// So many microseconds from now, by the database's clock.
    After(i64),
}

impl Due {
    pub(crate) fn at(self) -> Option<i64> {
        if let Self::At(at) = self { Some(at) } else { None }
    }

    pub(crate) fn after(self) -> Option<i64> {
        if let Self::After(after) = self { Some(after) } else { None }
    }
}

/// What of a message has no column of its own.
#[derive(Serialize, Deserialize)]
struct Head {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<(String, Value)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, Value)>,
}

/// A header's value: as text where it is text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Bytes { base64: String },
}

fn write(headers: &Headers) -> Vec<(String, Value)> {
    let value = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Value::Text(text.to_owned()),
        Err(_) => Value::Bytes { base64: BASE64.encode(bytes) },
    };
    headers.iter().map(|(name, bytes)| (name.to_owned(), value(bytes))).collect()
}

fn read(headers: Vec<(String, Value)>) -> Result<Headers, base64::DecodeError> {
    if headers.is_empty() {
        return Ok(Headers::new());
    }
    let bytes = |value| match value {
        Value::Text(text) => Ok(text.into_bytes()),
        Value::Bytes { base64 } => BASE64.decode(base64),
    };
    headers.into_iter().map(|(name, value)| Ok((name, bytes(value)?))).collect()
}

/// The column `head` of a message.
pub(crate) fn head(message: &Message) -> String {
    let envelope = message.envelope.as_ref();
    let head = Head {
        source: envelope.map(|envelope| envelope.source.to_string()),
        time: envelope.and_then(|envelope| envelope.time).map(Timestamp::unix_micros),
        content_type: message.content_type.as_ref().map(ToString::to_string),
        attributes: write(&message.attributes),
        headers: write(&message.headers),
    };
    // Texts, numbers and lists of them are JSON in any case.
    serde_json::to_string(&head).unwrap_or_default()
}

/// The columns of a message as they were read.
pub(crate) struct Columns {
    pub(crate) topic: String,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) name: Option<String>,
    pub(crate) event_id: Option<String>,
    pub(crate) head: String,
    pub(crate) payload: Vec<u8>,
}

impl Columns {
    /// The message that they hold.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if somebody has changed them.
    pub(crate) fn message(self) -> Result<Message, Error> {
        let broken = |source: messaging::BoxError| {
            Error::new(ErrorKind::Malformed, "column `head` of an outbox row does not parse").with_source(source)
        };
        let head: Head = serde_json::from_str(&self.head).map_err(|error| broken(error.into()))?;
        let mut message = Message::new(self.topic, Bytes::from(self.payload));
        message.key = self.key.map(Bytes::from);
        message.content_type = head.content_type.map(Name::from);
        message.attributes = read(head.attributes).map_err(|error| broken(error.into()))?;
        message.headers = read(head.headers).map_err(|error| broken(error.into()))?;
        if let (Some(id), Some(name)) = (self.event_id, self.name) {
            message.envelope = Some(Envelope {
                id: EventId::parse(&id),
                source: Name::from(head.source.unwrap_or_default()),
                name: Name::from(name),
                time: head.time.map(Timestamp::from_unix_micros),
            });
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_message_comes_back() {
        let mut message = Message::new("order-events", vec![0_u8, 0xff, 7]).with_key(vec![0xfe_u8]);
        message.content_type = Some(Name::from_static("application/json"));
        message.attributes = Headers::new().with("subject", "über").with("traceparent", "00-1");
        message.headers = Headers::new().with("twice", "1").with("twice", [0xff, 0]);
        message.envelope = Some(Envelope {
            id: EventId::generate(),
            source: Name::from_static("orders"),
            name: Name::from_static("orders.created"),
            time: Some(Timestamp::from_unix_micros(1_700_000_000_123_456)),
        });
        let bare = Message::new("raw", "").with_key("");
        for message in [message, bare] {
            let columns = Columns {
                topic: message.topic.to_string(),
                key: message.key.as_ref().map(|key| key.to_vec()),
                name: message.name().map(str::to_owned),
                event_id: message.envelope.as_ref().map(|envelope| envelope.id.to_string()),
                head: head(&message),
                payload: message.payload.to_vec(),
            };
            assert_eq!(columns.message().unwrap(), message);
        }
    }
}
