//! CloudEvents 1.0 on the wire: binary mode out, binary and structured mode in; a message without an envelope stays a
//! plain one.
//!
//! Attribute names and the two modes are those of the CloudEvents 1.0.2 core specification, its JSON event format, and
//! its Kafka protocol binding (attributes as headers with the prefix `ce_`, the media type in `content-type`).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value};

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
            header("ce_time", time.to_string().as_bytes());
        }
        let mut prefixed = String::from(PREFIX);
        for (name, value) in &message.attributes {
            prefixed.truncate(PREFIX.len());
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

/// Reads a message as it came: binary or structured CloudEvents, or neither. A broken envelope is kept as the message's
/// [`defect`](Message::defect), which makes it malformed for every handler but keeps its bytes for the dead letter.
pub fn read<'a>(
    topic: Name,
    key: Option<Bytes>,
    payload: Bytes,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Message {
    let mut message = Message::new(topic, payload);
    message.key = key;
    let mut found = Found::default();
    let mut attributes = Vec::new();
    let mut plain = Vec::new();
    let headers: Vec<_> = headers.into_iter().collect();
    // Without a version there is no event, and what looks like an attribute is a header like any other.
    let is_event = headers.iter().any(|(name, _)| attribute_name(name) == Some("specversion"));
    for (name, value) in headers {
        match attribute_name(name).filter(|_| is_event) {
            Some(attribute) => match found.take(attribute, value) {
                Ok(true) => {}
                Ok(false) => attributes.push((attribute, value)),
                Err(defect) => message.defect = Some(Name::from(defect)),
            },
            None if name.eq_ignore_ascii_case(CONTENT_TYPE) => {
                message.content_type = std::str::from_utf8(value).ok().map(content_type_name);
            }
            None => plain.push((name, value)),
        }
    }
    if let Some(content_type) = &message.content_type
        && content_type.get(..STRUCTURED.len()).is_some_and(|start| start.eq_ignore_ascii_case(STRUCTURED))
    {
        message.headers = plain.into_iter().collect();
        read_structured(&mut message);
        return message;
    }
    match found.envelope() {
        Ok(envelope) => message.envelope = envelope,
        Err(defect) => message.defect = Some(Name::from(defect)),
    }
    if message.envelope.is_some() {
        // The hop's copy of the trace goes out anew with the attribute.
        plain.retain(|(name, value)| {
            !(matches!(*name, "traceparent" | "tracestate") && attributes.contains(&(*name, *value)))
        });
    }
    message.attributes = attributes.into_iter().collect();
    message.headers = plain.into_iter().collect();
    message
}

/// The media types that nearly every message has cost no allocation.
fn content_type_name(text: &str) -> Name {
    match text {
        "application/json" => crate::codec::JSON,
        other => Name::new(other),
    }
}

fn attribute_name(header: &str) -> Option<&str> {
    READ_PREFIXES.iter().find_map(|prefix| header.strip_prefix(prefix))
}

/// The required attributes, as far as they were seen.
#[derive(Default)]
struct Found {
    spec_version: Option<String>,
    id: Option<EventId>,
    source: Option<Name>,
    name: Option<Name>,
    time: Option<Timestamp>,
}

impl Found {
    /// Takes an attribute that is a field of the envelope; answers whether it was one.
    fn take(&mut self, attribute: &str, value: &[u8]) -> Result<bool, String> {
        if !matches!(attribute, "specversion" | "id" | "source" | "type" | "time") {
            return Ok(false);
        }
        let text = std::str::from_utf8(value).map_err(|_| format!("the attribute {attribute:?} is not UTF-8"))?;
        match attribute {
            "specversion" => self.spec_version = Some(text.to_owned()),
            "id" => self.id = Some(EventId::parse(text)),
            "source" => self.source = Some(Name::new(text)),
            "type" => self.name = Some(Name::new(text)),
            _ => match Timestamp::parse(text) {
                Ok(time) => self.time = Some(time),
                Err(_) => return Err(format!("the attribute \"time\" is not RFC 3339: {text:?}")),
            },
        }
        Ok(true)
    }

    /// The envelope; `None` if nothing speaks of one.
    fn envelope(self) -> Result<Option<Envelope>, String> {
        let Some(version) = self.spec_version else { return Ok(None) };
        if !version.starts_with("1.") && version != "1" {
            return Err(format!("CloudEvents of version {version:?} are not known; 1.0 is"));
        }
        let missing = |attribute: &str| format!("the required attribute {attribute:?} is missing or empty");
        let id = self.id.filter(|id| !matches!(id, EventId::Text(text) if text.is_empty()));
        Ok(Some(Envelope {
            id: id.ok_or_else(|| missing("id"))?,
            source: self.source.filter(|source| !source.is_empty()).ok_or_else(|| missing("source"))?,
            name: self.name.filter(|name| !name.is_empty()).ok_or_else(|| missing("type"))?,
            time: self.time,
        }))
    }
}

/// Takes a structured event apart. On a defect the message stays as it came.
fn read_structured(message: &mut Message) {
    match parse_structured(&message.payload) {
        Ok(event) => {
            message.envelope = Some(event.envelope);
            message.attributes = event.attributes;
            message.content_type = event.content_type.or(Some(crate::codec::JSON));
            message.payload = event.payload;
        }
        Err(defect) => message.defect = Some(Name::from(format!("a broken structured event: {defect}"))),
    }
}

struct Structured {
    envelope: Envelope,
    attributes: Headers,
    content_type: Option<Name>,
    payload: Bytes,
}

fn parse_structured(payload: &[u8]) -> Result<Structured, String> {
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
        Some(Value::String(text)) => Some(content_type_name(&text)),
        Some(_) => return Err("\"datacontenttype\" is not a string".to_owned()),
    };
    let mut found = Found::default();
    let mut attributes = Vec::new();
    for (name, value) in event {
        let text = match value {
            Value::String(text) => text,
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            _ => return Err(format!("the attribute {name:?} is neither text, number nor boolean")),
        };
        if !found.take(&name, text.as_bytes())? {
            attributes.push((name, text));
        }
    }
    let envelope = found.envelope()?.ok_or("the required attribute \"specversion\" is missing")?;
    Ok(Structured { envelope, attributes: attributes.into_iter().collect(), content_type, payload: data.into() })
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
}
