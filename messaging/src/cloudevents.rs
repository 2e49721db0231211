//! CloudEvents 1.0 on the wire: binary mode out, binary and structured mode in; a message without an envelope stays a
//! plain one.
//!
//! Attribute names and the two modes are those of the CloudEvents 1.0.2 core specification, its JSON event format, and
//! its Kafka protocol binding (attributes as headers with the prefix `ce_`, the media type in `content-type`).

use std::io::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::{
    envelope::{Envelope, EventId, Timestamp},
    headers::Headers,
    message::Message,
    name::Name,
};

/// The header of the payload's media type.
pub const CONTENT_TYPE: &str = "content-type";
/// The prefix of attributes that are written.
pub const PREFIX: &str = "ce_";
/// Prefixes that are read: Kafka's and ours, those of AMQP, and HTTP's.
const READ_PREFIXES: [&str; 4] = ["ce_", "ce-", "cloudEvents_", "cloudEvents:"];
const STRUCTURED: &str = "application/cloudevents";

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
            let mut buffer = [0; 40];
            let mut rest = &mut buffer[..];
            // RFC 3339 in microseconds takes 27 to 30 bytes.
            let left = if write!(rest, "{time}").is_ok() { rest.len() } else { buffer.len() };
            let length = buffer.len() - left;
            header("ce_time", &buffer[..length]);
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

/// Payloads and keys are cut from chunks of this size.
const CHUNK: usize = 16 * 1024;
/// A larger one gets an allocation of its own: it would keep a chunk to itself, or leave much of one unused.
const CHUNKED: usize = 2 * 1024;
/// How many names are remembered.
const NAMES: usize = 16;

/// Reads messages of one consumer: what their envelopes have in common is kept once.
#[derive(Debug, Default)]
pub struct Reader {
    /// Event names and sources of the messages before: the next ones mostly have the same.
    names: Vec<Name>,
    /// Which of them gives way next.
    oldest: usize,
    chunk: BytesMut,
}

impl Reader {
    /// Copies a key or payload out of a client's buffer: a small one together with others, so that it costs no allocation
    /// of its own. It keeps its chunk of 16 KiB alive.
    #[must_use]
    pub fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > CHUNKED {
            return Bytes::copy_from_slice(bytes);
        }
        if bytes.is_empty() {
            return Bytes::new();
        }
        if self.chunk.capacity() < bytes.len() {
            self.chunk = BytesMut::with_capacity(CHUNK);
        }
        self.chunk.extend_from_slice(bytes);
        self.chunk.split().freeze()
    }

    /// Reads a message as it came: binary or structured CloudEvents, or neither. A broken envelope is kept as the message's
    /// [`defect`](Message::defect), which makes it malformed for every handler but keeps its bytes for the dead letter.
    ///
    /// The headers are gone through twice, the first time only as far as the event's version.
    pub fn read<'a>(
        &mut self,
        topic: Name,
        key: Option<Bytes>,
        payload: Bytes,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])> + Clone,
    ) -> Message {
        let mut message = Message::new(topic, payload);
        message.key = key;
        self.read_headers(&mut message, headers);
        message
    }

    /// Reads the headers of a message that has its topic, key and payload already, as [`read`](Self::read) does: what is
    /// shared from the start is written in its place.
    pub fn read_headers<'a>(
        &mut self,
        message: &mut Message,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])> + Clone,
    ) {
        let mut found = Found::default();
        let mut attributes: SmallVec<[(&str, &[u8]); 8]> = SmallVec::new();
        let mut plain: SmallVec<[(&str, &[u8]); 8]> = SmallVec::new();
        // Without a version there is no event, and what looks like an attribute is a header like any other.
        let is_event = headers.clone().into_iter().any(|(name, _)| attribute_name(name) == Some("specversion"));
        for (name, value) in headers {
            match attribute_name(name).filter(|_| is_event) {
                Some(attribute) => match found.take(attribute, value) {
                    Ok(true) => {}
                    Ok(false) => attributes.push((attribute, value)),
                    Err(defect) => message.defect = Some(Name::from(defect)),
                },
                None if name.eq_ignore_ascii_case(CONTENT_TYPE) => {
                    message.content_type = std::str::from_utf8(value).ok().map(|text| self.media_type(text));
                }
                None => plain.push((name, value)),
            }
        }
        if let Some(content_type) = &message.content_type
            && content_type.get(..STRUCTURED.len()).is_some_and(|start| start.eq_ignore_ascii_case(STRUCTURED))
        {
            message.headers = plain.iter().copied().collect();
            return self.read_structured(message);
        }
        match found.envelope(|name| self.name(name)) {
            Ok(envelope) => message.envelope = envelope,
            Err(defect) => message.defect = Some(Name::from(defect)),
        }
        if message.envelope.is_some() {
            // The hop's copy of the trace goes out anew with the attribute.
            plain.retain(|(name, value)| {
                !(matches!(*name, "traceparent" | "tracestate") && attributes.contains(&(*name, *value)))
            });
        }
        message.attributes = attributes.iter().copied().collect();
        message.headers = plain.iter().copied().collect();
    }

    /// The name of a media type: the one that nearly every message has costs nothing.
    fn media_type(&mut self, text: &str) -> Name {
        if text == "application/json" { crate::codec::JSON } else { self.name(text) }
    }

    /// The name of this text: the one that was read before, if it is remembered.
    fn name(&mut self, text: &str) -> Name {
        if let Some(known) = self.names.iter().find(|known| known.as_str() == text) {
            return known.clone();
        }
        let name = Name::new(text);
        if self.names.len() < NAMES {
            self.names.push(name.clone());
        } else {
            self.names[self.oldest] = name.clone();
            self.oldest = (self.oldest + 1) % NAMES;
        }
        name
    }

    /// Takes a structured event apart. On a defect the message stays as it came.
    fn read_structured(&mut self, message: &mut Message) {
        match self.parse_structured(&message.payload) {
            Ok(event) => {
                message.envelope = Some(event.envelope);
                message.attributes = event.attributes;
                message.content_type = event.content_type.or(Some(crate::codec::JSON));
                message.payload = event.payload;
            }
            Err(defect) => message.defect = Some(Name::from(format!("a broken structured event: {defect}"))),
        }
    }

    fn parse_structured(&mut self, payload: &[u8]) -> Result<Structured, String> {
        let mut event: Map<String, Value> = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
        event.retain(|_, value| !value.is_null());
        let data = match (event.remove("data"), event.remove("data_base64")) {
            (Some(_), Some(_)) => return Err("both \"data\" and \"data_base64\" are there".to_owned()),
            (Some(data), None) => serde_json::to_vec(&data).map_err(|error| error.to_string())?,
            (None, Some(Value::String(text))) => {
                STANDARD.decode(text).map_err(|error| format!("\"data_base64\": {error}"))?
            }
            (None, Some(_)) => return Err("\"data_base64\" is not a string".to_owned()),
            (None, None) => Vec::new(),
        };
        let content_type = match event.remove("datacontenttype") {
            None => None,
            Some(Value::String(text)) => Some(self.media_type(&text)),
            Some(_) => return Err("\"datacontenttype\" is not a string".to_owned()),
        };
        let mut texts = Vec::with_capacity(event.len());
        for (name, value) in event {
            match value {
                Value::String(text) => texts.push((name, text)),
                Value::Bool(_) | Value::Number(_) => texts.push((name, value.to_string())),
                _ => return Err(format!("the attribute {name:?} is neither text, number nor boolean")),
            }
        }
        let mut found = Found::default();
        let mut attributes = Vec::new();
        for (name, text) in &texts {
            if !found.take(name, text.as_bytes())? {
                attributes.push((name, text));
            }
        }
        let envelope = found.envelope(|name| self.name(name))?;
        let envelope = envelope.ok_or("the required attribute \"specversion\" is missing")?;
        Ok(Structured { envelope, attributes: attributes.into_iter().collect(), content_type, payload: data.into() })
    }
}

fn attribute_name(header: &str) -> Option<&str> {
    // One look passes over nearly every header that is none.
    if !header.starts_with('c') {
        return None;
    }
    READ_PREFIXES.iter().find_map(|prefix| header.strip_prefix(prefix))
}

/// The required attributes, as far as they were seen.
#[derive(Default)]
struct Found<'a> {
    spec_version: Option<&'a str>,
    id: Option<EventId>,
    source: Option<&'a str>,
    name: Option<&'a str>,
    time: Option<Timestamp>,
}

impl<'a> Found<'a> {
    /// Takes an attribute that is a field of the envelope; answers whether it was one.
    fn take(&mut self, attribute: &str, value: &'a [u8]) -> Result<bool, String> {
        if !matches!(attribute, "specversion" | "id" | "source" | "type" | "time") {
            return Ok(false);
        }
        let text = std::str::from_utf8(value).map_err(|_| format!("the attribute {attribute:?} is not UTF-8"))?;
        match attribute {
            "specversion" => self.spec_version = Some(text),
            "id" => self.id = Some(EventId::parse(text)),
            "source" => self.source = Some(text),
            "type" => self.name = Some(text),
            _ => match Timestamp::parse(text) {
                Ok(time) => self.time = Some(time),
                Err(_) => return Err(format!("the attribute \"time\" is not RFC 3339: {text:?}")),
            },
        }
        Ok(true)
    }

    /// The envelope; `None` if nothing speaks of one. `name` makes a text that other messages have too.
    fn envelope(self, mut name: impl FnMut(&str) -> Name) -> Result<Option<Envelope>, String> {
        let Some(version) = self.spec_version else { return Ok(None) };
        if !version.starts_with("1.") && version != "1" {
            return Err(format!("CloudEvents of version {version:?} are not known; 1.0 is"));
        }
        let missing = |attribute: &str| format!("the required attribute {attribute:?} is missing or empty");
        let id = self.id.filter(|id| !matches!(id, EventId::Text(text) if text.is_empty()));
        Ok(Some(Envelope {
            id: id.ok_or_else(|| missing("id"))?,
            source: name(self.source.filter(|source| !source.is_empty()).ok_or_else(|| missing("source"))?),
            name: name(self.name.filter(|name| !name.is_empty()).ok_or_else(|| missing("type"))?),
            time: self.time,
        }))
    }
}

struct Structured {
    envelope: Envelope,
    attributes: Headers,
    content_type: Option<Name>,
    payload: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn names_are_kept_once_and_copies_share_a_chunk() {
        let mut reader = Reader::default();
        let mut read = |name: &str| {
            let headers = [("ce_specversion", "1.0"), ("ce_id", "1"), ("ce_source", "s"), ("ce_type", name)];
            let headers = headers.map(|(name, value)| (name, value.as_bytes()));
            reader.read("t".into(), None, Bytes::new(), headers).envelope.unwrap()
        };
        let first = read("a");
        assert!(first.name.is_same(&read("a").name) && first.source.is_same(&read("b").source));
        for index in 0..NAMES * 2 {
            assert_eq!(read(&index.to_string()).name, index.to_string().as_str());
        }
        let mut reader = Reader::default();
        let (small, large) = (reader.copy(b"abc"), reader.copy(&vec![7; CHUNKED + 1]));
        assert_eq!((&small[..], large.len()), (&b"abc"[..], CHUNKED + 1));
        for length in 0..CHUNKED {
            assert_eq!(reader.copy(&vec![1; length]), vec![1; length]);
        }
        assert_eq!(&small[..], b"abc");
    }
}
