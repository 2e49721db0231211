//! How a message lies in AMQP: CloudEvents in binary mode, attributes as headers with a prefix, and the key as a header
//! of its own.
//!
//! There is no endorsed binding of CloudEvents to AMQP 0-9-1. Ours writes the names of the binding to AMQP 1.0
//! (`cloudEvents_id` and so on), which is what clients of RabbitMQ's AMQP 1.0 read out of these headers; the prefix can be
//! chosen. The media type is the property `content_type`; the event's id and name are the properties `message_id` and
//! `type` as well, for tools that show these. Of a message without an envelope the property `message_id`, by which it is
//! known, is the header `message-id`. `messaging-key` holds the key. A header that is itself called so, or begins
//! with `header:`, is written with `header:` in front; a name that stands more than once is one header with a list.

use std::{
    borrow::Cow,
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, ShortString},
};
use messaging::{
    Message, Name,
    cloudevents::{self, Reader},
};
use smallvec::SmallVec;

const KEY: &str = "messaging-key";
/// The header that stands for the property `message_id` of a message without an envelope.
const MESSAGE_ID: &str = Message::MESSAGE_ID;
const ESCAPE: &str = "header:";
/// The attribute that is the property `message_id` as well.
const ID: &str = "ce_id";
/// So many names of headers are remembered.
const REMEMBERED: usize = 16;
/// What the broker adds to what it hands over again.
const OF_THE_BROKER: [&str; 2] = ["x-delivery-count", "x-acquired-count"];
const PERSISTENT: u8 = 2;
/// The most that a short string of AMQP holds.
const SHORT: usize = 255;

/// Writes messages as AMQP properties.
pub(crate) struct Writer {
    prefix: String,
    /// The headers of the first messages: mostly all have the same, in the same order.
    names: Vec<HeaderName>,
}

/// What a header is called, and what that is in AMQP.
struct HeaderName {
    name: String,
    of_event: bool,
    written: ShortString,
}

impl Writer {
    /// One that writes attributes with this prefix.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), names: Vec::new() }
    }

    /// The AMQP properties of a message.
    ///
    /// # Errors
    /// What does not fit into AMQP.
    pub(crate) fn properties(&mut self, message: &Message) -> Result<BasicProperties, String> {
        let mut headers = BTreeMap::new();
        let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let of_event = message.envelope.is_some();
        if let Some(key) = &message.key {
            headers.insert(KEY.into(), bytes(key));
        }
        let (mut content_type, mut message_id, mut too_long) = (None, None, None);
        // Of several, none is the one.
        let has_id = !of_event && message.headers.iter().filter(|(name, _)| *name == MESSAGE_ID).count() == 1;
        let mut index = 0;
        cloudevents::write_binary(message, |name, value| {
            match name {
                ID if of_event && message_id.is_none() => message_id = short(value),
                MESSAGE_ID if has_id => {
                    message_id = short(value);
                    if message_id.is_some() {
                        return;
                    }
                }
                cloudevents::CONTENT_TYPE => {
                    content_type = short(value);
                    if content_type.is_some() {
                        return;
                    }
                }
                _ => {}
            }
            match self.name(index, name, of_event) {
                Ok(name) => add(&mut headers, name, value),
                Err(name) => too_long = Some(name),
            }
            index += 1;
        });
        if let Some(name) = too_long {
            return Err(format!("the header {name:?} has a name of more than {SHORT} bytes"));
        }
        if let Some(content_type) = content_type {
            properties = properties.with_content_type(content_type);
        }
        if let Some(id) = message_id {
            properties = properties.with_message_id(id);
        }
        if let Some(name) = message.envelope.as_ref().and_then(|envelope| short(envelope.name.as_bytes())) {
            properties = properties.with_type(name);
        }
        Ok(if headers.is_empty() { properties } else { properties.with_headers(headers.into()) })
    }

    /// What the header of this name, the message's so many-th, is called in AMQP.
    ///
    /// # Errors
    /// That, if it is too long.
    fn name(&mut self, index: usize, name: &str, of_event: bool) -> Result<ShortString, String> {
        let is_it = |known: &&HeaderName| known.name == name && known.of_event == of_event;
        if let Some(known) = self.names.get(index).filter(is_it).or_else(|| self.names.iter().find(is_it)) {
            return Ok(known.written.clone());
        }
        let written = match name.strip_prefix(cloudevents::PREFIX).filter(|_| of_event) {
            Some(attribute) => [&self.prefix, attribute].concat(),
            None if name == KEY || name.starts_with(ESCAPE) => [ESCAPE, name].concat(),
            None => name.to_owned(),
        };
        let short = ShortString::try_new(written.as_str()).map_err(|_| written)?;
        if self.names.len() < REMEMBERED {
            self.names.push(HeaderName { name: name.to_owned(), of_event, written: short.clone() });
        }
        Ok(short)
    }
}

/// About how many bytes the properties take: they have to fit into one frame.
pub(crate) fn properties_weight(message: &Message) -> usize {
    let envelope =
        message.envelope.as_ref().map_or(0, |envelope| 512 + envelope.source.len() + envelope.name.len() * 2);
    let key = message.key.as_ref().map_or(0, Bytes::len);
    // Traces stand there twice.
    64 + envelope + key + message.attributes.weight() * 2 + message.headers.weight()
}

/// A name and a value.
type Header<'a> = (&'a str, Cow<'a, [u8]>);

/// Reads a message of a topic as it came, and writes it where it stays.
pub(crate) fn read(reader: &mut Reader, topic: &Name, properties: &BasicProperties, payload: Vec<u8>) -> Arc<Message> {
    let mut shared = Arc::new(Message::new(topic.clone(), payload));
    // Nobody else has it yet.
    let Some(message) = Arc::get_mut(&mut shared) else { return shared };
    let mut headers = SmallVec::<[Header<'_>; 12]>::new();
    if let Some(content_type) = properties.content_type() {
        headers.push((cloudevents::CONTENT_TYPE, content_type.as_str().as_bytes().into()));
    }
    for (name, value) in properties.headers().iter().flatten() {
        match name.as_str() {
            KEY => message.key = Some(reader.copy(&value_bytes(value))),
            name if OF_THE_BROKER.contains(&name) => {}
            name => {
                let name = name.strip_prefix(ESCAPE).unwrap_or(name);
                match value {
                    AMQPValue::FieldArray(values) => {
                        headers.extend(values.as_slice().iter().map(|value| (name, value_bytes(value))));
                    }
                    value => headers.push((name, value_bytes(value))),
                }
            }
        }
    }
    reader.read_headers(message, headers.iter().map(|(name, value)| (*name, &value[..])));
    if message.envelope.is_none()
        && let Some(id) = properties.message_id()
    {
        message.headers = message.headers.with(MESSAGE_ID, id.as_str());
    }
    shared
}

fn short(text: &[u8]) -> Option<ShortString> {
    ShortString::try_new(std::str::from_utf8(text).ok()?).ok()
}

fn bytes(value: &[u8]) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn add(headers: &mut BTreeMap<ShortString, AMQPValue>, name: ShortString, value: &[u8]) {
    match headers.entry(name) {
        Entry::Vacant(free) => {
            free.insert(bytes(value));
        }
        Entry::Occupied(mut there) => match there.get_mut() {
            AMQPValue::FieldArray(values) => values.push(bytes(value)),
            one => {
                let first = std::mem::replace(one, AMQPValue::Void);
                *one = AMQPValue::FieldArray(vec![first, bytes(value)].into());
            }
        },
    }
}

/// A value as others may have written it, as bytes: text as it is, numbers and truth in words.
fn value_bytes(value: &AMQPValue) -> Cow<'_, [u8]> {
    let words = match value {
        AMQPValue::LongString(text) => return text.as_bytes().into(),
        AMQPValue::ShortString(text) => return text.as_str().as_bytes().into(),
        AMQPValue::ByteArray(bytes) => return bytes.as_slice().into(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::Timestamp(value) => value.to_string(),
        AMQPValue::Float(value) => value.to_string(),
        AMQPValue::Double(value) => value.to_string(),
        AMQPValue::Void => String::new(),
        nested => serde_json::to_string(nested).unwrap_or_default(),
    };
    words.into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::types::FieldTable;
    use messaging::{Envelope, EventId, Headers, Timestamp};

    fn event() -> Message {
        let envelope = Envelope {
            id: EventId::parse("e1"),
            source: "orders".into(),
            name: "orders.created".into(),
            time: Some(Timestamp::from_unix_micros(1)),
        };
        let mut event = Message::new("t", "{}").with_key("k").with_envelope(envelope);
        event.attributes = Headers::new().with("subject", "7");
        event.with_content_type("application/json")
    }

    fn through(message: &Message, writer: &mut Writer) -> Arc<Message> {
        read(&mut Reader::default(), &"t".into(), &writer.properties(message).unwrap(), message.payload.to_vec())
    }

    #[test]
    fn a_message_reads_back_as_it_was() {
        let long = "x".repeat(300);
        let messages = [
            Message::new("t", &b"\xff\x00"[..]),
            Message::new("t", "").with_key(""),
            Message::new("t", "x").with_key(&b"\xff\x00"[..]),
            event(),
            Message::new("t", "x").with_header("header:messaging-key", "2").with_header("messaging-key", "1"),
            Message::new("t", "x").with_header("a", "1").with_header("a", [0xff]).with_header("b", ""),
            Message::new("t", "x").with_content_type(long.as_str()),
            Message::new("t", "x").with_header("ce_subject", "no event's"),
            Message::new("t", "x").with_header("message-id", "7"),
            Message::new("t", "x").with_header("message-id", long.as_str()),
            Message::new("t", "x").with_header("message-id", "7").with_header("message-id", "8"),
            event().with_header("message-id", "of the application"),
        ];
        // Each has to read back whatever was written before it.
        let mut writers = ["cloudEvents_", "ce-"].map(Writer::new);
        for message in messages.iter().chain(messages.iter().rev()) {
            for writer in &mut writers {
                assert_eq!(*through(message, writer), *message);
            }
        }
    }

    #[test]
    fn attributes_have_the_chosen_prefix_and_usual_properties() {
        let written = Writer::new("cloudEvents:").properties(&event()).unwrap();
        assert!(written.headers().as_ref().unwrap().contains_key("cloudEvents:subject"));
        assert_eq!(written.message_id().as_ref().unwrap().as_str(), "e1");
        assert_eq!(written.kind().as_ref().unwrap().as_str(), "orders.created");
    }

    #[test]
    fn a_message_without_an_envelope_has_its_id_as_a_header() {
        let properties = BasicProperties::default().with_message_id("m1".into());
        let message = read(&mut Reader::default(), &"t".into(), &properties, b"{}".to_vec());
        assert_eq!(message.headers.get_str("message-id"), Some("m1"));
        let written = Writer::new("ce_").properties(&message).unwrap();
        assert_eq!(written.message_id().as_ref().unwrap().as_str(), "m1");
        assert!(written.headers().is_none());
    }

    #[test]
    fn what_others_wrote_is_read_as_it_is() {
        let mut headers = FieldTable::default();
        headers.insert("count".into(), AMQPValue::LongInt(3));
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(1));
        headers.insert("x-foreign".into(), AMQPValue::Boolean(true));
        let message = read(
            &mut Reader::default(),
            &"t".into(),
            &BasicProperties::default().with_headers(headers),
            b"{}".to_vec(),
        );
        assert_eq!(message.headers, [("count", "3"), ("x-foreign", "true")].into_iter().collect());
        assert!(message.envelope.is_none() && message.key.is_none());
    }

    #[test]
    fn names_that_do_not_fit_are_named() {
        let message = Message::new("t", "x").with_header(&"n".repeat(256), "1");
        assert!(Writer::new("ce_").properties(&message).unwrap_err().contains("nnn"));
    }
}
