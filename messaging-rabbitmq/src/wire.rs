//! How a message lies in AMQP: CloudEvents in binary mode, attributes as headers with a prefix, and the key as a header
//! of its own.
//!
//! There is no endorsed binding of CloudEvents to AMQP 0-9-1. Ours writes the names of the binding to AMQP 1.0
//! (`cloudEvents_id` and so on), which is what clients of RabbitMQ's AMQP 1.0 read out of these headers; the prefix can be
//! chosen. The media type is the property `content_type`; the event's id and name are the properties `message_id` and
//! `type` as well, for tools that show these. Of a message without an envelope the property `message_id`, by which it is
//! known, is the header `message-id`. `messaging-key` holds the key. A header that is itself called so, or begins
//! with `header:`, is written with `header:` in front; a name that stands more than once is one header with a list.

mod form;
mod parts;
mod writer;

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use lapin::{BasicProperties, types::AMQPValue};
use messaging::{
    Message, Name,
    cloudevents::{self, Reader},
};
use smallvec::SmallVec;

use self::parts::{ESCAPE, KEY, MESSAGE_ID};
pub(crate) use self::writer::Writer;

/// What the broker adds to what it hands over again.
const OF_THE_BROKER: [&str; 2] = ["x-delivery-count", "x-acquired-count"];

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

    fn messages() -> Vec<Message> {
        let long = "x".repeat(300);
        let changed = |change: fn(&mut Message)| {
            let mut event = event();
            change(&mut event);
            event
        };
        let named = |name: &str| event().with_envelope(Envelope { name: name.into(), ..event().envelope.unwrap() });
        let plain = || Message::new("t", "x");
        vec![
            Message::new("t", &b"\xff\x00"[..]),
            Message::new("t", "").with_key(""),
            plain().with_key(&b"\xff\x00"[..]),
            event(),
            named("orders.cancelled"),
            named(&long),
            changed(|event| event.key = None),
            changed(|event| event.content_type = None),
            event().with_content_type("text/plain"),
            event().with_content_type(long.as_str()),
            changed(|event| event.attributes = Headers::new()),
            event().with_header("a", "1"),
            event().with_header("a", "1").with_header("b", "2"),
            changed(|event| {
                event.envelope = None;
                event.attributes = Headers::new();
            }),
            plain().with_header("header:messaging-key", "2").with_header("messaging-key", "1"),
            plain().with_header("a", "1").with_header("a", [0xff]).with_header("b", ""),
            plain().with_header("a", "1").with_header("b", ""),
            plain().with_header("a", "1"),
            plain().with_content_type(long.as_str()),
            plain().with_header("ce_subject", "no event's"),
            plain().with_header("message-id", "7"),
            plain().with_header("message-id", long.as_str()),
            plain().with_header("message-id", "7").with_header("message-id", "8"),
            event().with_header("message-id", "of the application"),
        ]
    }

    #[test]
    fn a_message_reads_back_as_it_was() {
        for message in messages() {
            for prefix in ["cloudEvents_", "ce-"] {
                assert_eq!(*through(&message, &mut Writer::new(prefix)), message);
            }
        }
    }

    #[test]
    fn what_was_written_before_changes_nothing() {
        let mut messages = messages();
        messages.push(event().with_header("b", "2").with_header("a", "1"));
        let written = |message| Writer::new("ce_").properties(message).unwrap();
        let fresh: Vec<_> = messages.iter().map(written).collect();
        let mut of_all = Writer::new("ce_");
        for (first, of_first) in messages.iter().zip(&fresh) {
            for (second, of_second) in messages.iter().zip(&fresh) {
                let mut writer = Writer::new("ce_");
                for (message, written) in [(first, of_first), (second, of_second), (first, of_first)] {
                    assert_eq!(writer.properties(message).unwrap(), *written, "{message:?} after {first:?}");
                    assert_eq!(of_all.properties(message).unwrap(), *written, "{message:?} after all");
                }
            }
        }
    }

    #[test]
    fn more_forms_than_are_remembered_are_written_all_the_same() {
        let with = |index: usize| Message::new("t", "x").with_header(&format!("h{index}"), index.to_string());
        let mut writer = Writer::new("ce_");
        for index in (0..200).chain(0..200) {
            assert_eq!(*through(&with(index), &mut writer), with(index));
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
