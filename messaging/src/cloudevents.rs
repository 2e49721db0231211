//! CloudEvents 1.0 on the wire: binary mode out, binary and structured mode in; a message without an envelope stays a
//! plain one.
//!
//! Attribute names and the two modes are those of the CloudEvents 1.0.2 core specification, its JSON event format, and
//! its Kafka protocol binding (attributes as headers with the prefix `ce_`, the media type in `content-type`).

mod attributes;
mod reader;
mod remembered;

use bytes::Bytes;

pub use self::reader::Reader;
use crate::{envelope::EventId, message::Message, name::Name};

/// The header of the payload's media type.
pub const CONTENT_TYPE: &str = "content-type";
/// The prefix of attributes that are written.
pub const PREFIX: &str = "ce_";

/// Calls `header` with every header of a message in binary mode: its attributes, its media type, its own headers.
pub fn write_binary(message: &Message, mut header: impl FnMut(&str, &[u8])) {
    if let Some(envelope) = &message.envelope {
        header("ce_specversion", b"1.0");
        match &envelope.id {
            EventId::Uuid(uuid) => {
                let mut buffer = uuid::Uuid::encode_buffer();
                header("ce_id", uuid.hyphenated().encode_lower(&mut buffer).as_bytes());
            }
            EventId::Text(text) => header("ce_id", text.as_bytes()),
        }
        header("ce_source", envelope.source.as_bytes());
        header("ce_type", envelope.name.as_bytes());
        if let Some(time) = envelope.time {
            match time.encode() {
                Some(text) => header("ce_time", text.as_bytes()),
                None => header("ce_time", time.to_string().as_bytes()),
            }
        }
        let mut prefixed = String::new();
        for (name, value) in &message.attributes {
            prefixed.clear();
            prefixed.push_str(PREFIX);
            prefixed.push_str(name);
            header(&prefixed, value);
        }
        // The trace goes twice: the attribute carries where it began, the plain header the hop (CloudEvents'
        // distributed tracing extension).
        for name in ["traceparent", "tracestate"] {
            if let Some(value) = message.attributes.get(name)
                && message.headers.get(name).is_none()
            {
                header(name, value);
            }
        }
    }
    if let Some(content_type) = &message.content_type {
        header(CONTENT_TYPE, content_type.as_bytes());
    }
    for (name, value) in &message.headers {
        header(name, value);
    }
}

/// Reads a message as it came; see [`Reader::read`]. For many messages, keep a [`Reader`].
pub fn read<'a>(
    topic: Name,
    key: Option<Bytes>,
    payload: Bytes,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])> + Clone,
) -> Message {
    Reader::default().read(topic, key, payload, headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Envelope, Headers, Timestamp};

    fn headers(message: &Message) -> Vec<(String, Vec<u8>)> {
        let mut headers = Vec::new();
        write_binary(message, |name, value| headers.push((name.to_owned(), value.to_vec())));
        headers
    }

    fn read_back(message: &Message) -> Message {
        let headers = headers(message);
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        read(message.topic.clone(), message.key.clone(), message.payload.clone(), headers)
    }

    fn event() -> Message {
        let mut message = Message::new("order-events", &b"{}"[..])
            .with_key(&b"7"[..])
            .with_content_type("application/json")
            .with_envelope(Envelope {
                id: EventId::generate(),
                source: "orders".into(),
                name: "orders.created".into(),
                time: Some(Timestamp::from_unix_micros(1_700_000_000_000_001)),
            })
            .with_header("tenant", "ä");
        message.attributes = Headers::new().with("subject", "7").with("traceparent", "00-aa-bb-01");
        message
    }

    #[test]
    fn binary_mode_round_trips() {
        let message = event();
        assert_eq!(read_back(&message), message);
        let names: Vec<String> = headers(&message).into_iter().map(|(name, _)| name).collect();
        for name in ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "ce_traceparent"] {
            assert!(names.iter().any(|known| known == name), "{name} is missing from {names:?}");
        }
        assert!(names.contains(&"traceparent".to_owned()) && names.contains(&"content-type".to_owned()));
    }

    #[test]
    fn plain_messages_stay_plain() {
        let message = Message::new("t", &b"\xff"[..]).with_header("a", [0, 255]);
        assert_eq!(read_back(&message), message);
    }

    #[test]
    fn structured_mode_is_read() {
        let body =
            br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":null,"count":3,"data":{"a":1}}"#;
        let content_type = ("Content-Type", &b"Application/CloudEvents+json; charset=UTF-8"[..]);
        let message = read("topic".into(), None, Bytes::from_static(body), [content_type]);
        assert_eq!(message.defect, None);
        assert_eq!((message.name(), &message.payload[..]), (Some("t"), &br#"{"a":1}"#[..]));
        assert_eq!(message.attributes.get_str("count"), Some("3"));
        let body = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"/wA="}"#;
        let message = read("topic".into(), None, Bytes::from_static(body), [content_type]);
        assert_eq!(&message.payload[..], [0xff, 0]);
    }

    #[test]
    fn broken_envelopes_are_defects_and_keep_their_bytes() {
        let content_type = ("content-type", &b"application/cloudevents+json"[..]);
        for body in [&b"{"[..], b"{}", br#"{"specversion":"1.0","id":"","source":"s","type":"t"}"#, b"[]"] {
            let message = read("topic".into(), None, Bytes::from_static(body), [content_type]);
            assert!(message.defect.is_some(), "{body:?}");
            assert_eq!(&message.payload[..], body);
        }
        let binary = [("ce_specversion", &b"1.0"[..]), ("ce_id", b"1")];
        assert!(read("topic".into(), None, Bytes::new(), binary).defect.unwrap().contains("source"));
        let future = [("ce_specversion", &b"2.0"[..])];
        assert!(read("topic".into(), None, Bytes::new(), future).defect.unwrap().contains("2.0"));
    }

    #[test]
    fn names_are_kept_once() {
        let mut reader = Reader::default();
        let mut read = |name: &str| {
            let headers = [("ce_specversion", "1.0"), ("ce_id", "1"), ("ce_source", "s"), ("ce_type", name)];
            let headers = headers.map(|(name, value)| (name, value.as_bytes()));
            reader.read("t".into(), None, Bytes::new(), headers).envelope.unwrap()
        };
        let first = read("a");
        assert!(first.name.is_same(&read("a").name) && first.source.is_same(&read("b").source));
    }

    #[test]
    fn without_a_version_what_looks_like_an_attribute_is_a_header() {
        let headers = [("ce_id", &b"1"[..]), ("Content-Type", b"text/plain"), ("cloudEvents:type", b"t"), ("ce", b"2")];
        let message = read("t".into(), None, Bytes::new(), headers);
        assert_eq!((&message.envelope, &message.defect, &message.attributes), (&None, &None, &Headers::new()));
        assert_eq!(message.content_type.as_deref(), Some("text/plain"));
        let kept: Vec<_> = message.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(kept, ["ce_id", "cloudEvents:type", "ce"]);
    }

    #[test]
    fn every_prefix_is_read() {
        for prefix in ["ce_", "ce-", "cloudEvents_", "cloudEvents:"] {
            let names = ["specversion", "id", "source", "type", "subject"].map(|name| format!("{prefix}{name}"));
            let headers = names.iter().map(|name| (name.as_str(), &b"1"[..]));
            let message = read("t".into(), None, Bytes::new(), headers);
            assert!(message.envelope.is_some() && message.headers.is_empty(), "{prefix}");
            assert_eq!(message.attributes.get_str("subject"), Some("1"), "{prefix}");
        }
    }

    #[test]
    fn a_broken_time_is_a_defect_of_an_event_that_has_the_rest() {
        for (time, told) in [(&b"yesterday"[..], "\"yesterday\""), (b"\xff", "RFC 3339")] {
            let headers = [
                ("ce_specversion", &b"1.0"[..]),
                ("ce_id", b"1"),
                ("ce_source", b"s"),
                ("ce_type", b"t"),
                ("ce_time", time),
            ];
            let message = read("t".into(), None, Bytes::new(), headers);
            assert_eq!(message.name(), Some("t"));
            assert!(message.defect.unwrap().contains(told));
        }
        let no_text = [("ce_specversion", &b"1.0"[..]), ("ce_id", b"\xff"), ("ce_source", b"s"), ("ce_type", b"t")];
        let message = read("t".into(), None, Bytes::new(), no_text);
        assert!(message.envelope.is_none() && message.defect.unwrap().contains("\"id\" is not UTF-8"));
    }
}
