//! [`Shown`]: a message as it is printed, for people and for programs.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use messaging::{Delivery, Headers, Message};
use serde::Serialize;
use serde_json::value::RawValue;

/// A message as a JSON object.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    topic: String,
    partition: u32,
    position: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    defect: Option<String>,
    #[serde(flatten)]
    payload: Payload,
}

/// A payload by what it is: JSON, other text, or bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Payload {
    Data(Box<RawValue>),
    Text(String),
    Base64(String),
}

impl Payload {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(bytes) else { return Self::Base64(BASE64_STANDARD.encode(bytes)) };
        // Line breaks in JSON are blanks: within strings they are escaped.
        match RawValue::from_string(text.replace(['\n', '\r'], " ")) {
            Ok(json) => Self::Data(json),
            Err(_) => Self::Text(text.to_owned()),
        }
    }
}

impl std::fmt::Display for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Data(json) => f.write_str(json.get()),
            Self::Text(text) => f.write_str(text),
            Self::Base64(text) => write!(f, "base64:{text}"),
        }
    }
}

impl Shown {
    pub(crate) fn of(delivery: &Delivery) -> Self {
        let message = &*delivery.message;
        let envelope = message.envelope.as_ref();
        let key = message.key.as_deref().map(std::str::from_utf8);
        Self {
            topic: message.topic.to_string(),
            partition: delivery.partition,
            position: delivery.position.to_string(),
            key: key.and_then(Result::ok).map(str::to_owned),
            key_base64: message.key.as_ref().filter(|_| key.is_some_and(|key| key.is_err())).map(encode),
            name: envelope.map(|envelope| envelope.name.to_string()),
            id: envelope.map(|envelope| envelope.id.to_string()),
            source: envelope.map(|envelope| envelope.source.to_string()),
            time: envelope.and_then(|envelope| envelope.time).map(|time| time.to_string()),
            content_type: message.content_type.as_ref().map(ToString::to_string),
            attributes: texts(&message.attributes),
            headers: texts(&message.headers),
            defect: message.defect.as_ref().map(ToString::to_string),
            payload: Payload::of(&message.payload),
        }
    }

    /// The message in a line, its headers in lines below if they are wanted.
    pub(crate) fn text(&self, with_headers: bool) -> String {
        let mut line = format!("{}/{}@{}", self.topic, self.partition, self.position);
        let parts = [&self.time, &self.name].into_iter().flatten().cloned();
        let key = self.key.as_ref().or(self.key_base64.as_ref()).map(|key| format!("key={key}"));
        for part in parts.chain(key) {
            line.push_str("  ");
            line.push_str(&one_line(&part));
        }
        line.push_str("  ");
        line.push_str(&one_line(&self.payload.to_string()));
        if with_headers {
            for (name, value) in self.attributes.iter().chain(&self.headers) {
                line.push_str(&format!("\n    {}: {}", one_line(name), one_line(value)));
            }
        }
        line
    }

    pub(crate) fn payload(&self) -> &Payload {
        &self.payload
    }
}

/// A key as it is printed.
pub(crate) fn key_text(message: &Message) -> String {
    message.key.as_deref().map(|key| one_line(&value_text(key))).unwrap_or_default()
}

/// A header's value as text, or as base64 if it is none.
pub(crate) fn value_text(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("base64:{}", BASE64_STANDARD.encode(value)),
    }
}

fn encode(bytes: &bytes::Bytes) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn texts(headers: &Headers) -> BTreeMap<String, String> {
    headers.iter().map(|(name, value)| (name.to_owned(), value_text(value))).collect()
}

/// What a stranger wrote, without what a terminal would obey.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_shown_as_what_they_are() {
        assert_eq!(Payload::of(b"{\n \"b\": 1.10, \"a\": 2 }").to_string(), "{  \"b\": 1.10, \"a\": 2 }");
        assert_eq!(serde_json::to_string(&Payload::of(b"plain")).unwrap(), r#"{"text":"plain"}"#);
        assert_eq!(serde_json::to_string(&Payload::of(&[0xff])).unwrap(), r#"{"base64":"/w=="}"#);
    }

    #[test]
    fn a_terminal_obeys_no_message() {
        let message = Message::new("t", &b"\x1b[2Jgone\nnext"[..]).with_key(&b"k\x07"[..]).with_header("h", "v");
        let shown = Shown::of(&Delivery::new(message));
        assert_eq!(shown.text(true), "t/0@0  key=k\u{fffd}  \u{fffd}[2Jgone\u{fffd}next\n    h: v");
        let json = serde_json::to_string(&shown).unwrap();
        assert!(json.contains(r#""text":"\u001b[2Jgone\nnext""#), "{json}");
    }
}
