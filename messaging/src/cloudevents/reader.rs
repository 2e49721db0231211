//! [`Reader`]: makes messages of what came.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::{
    CONTENT_TYPE,
    attributes::{Attributes, attribute_name},
    remembered::Remembered,
};
use crate::{codec::JSON, envelope::Envelope, headers::Headers, message::Message, name::Name};

const STRUCTURED: &str = "application/cloudevents";
/// Payloads and keys are cut from chunks of this size.
const CHUNK: usize = 16 * 1024;
/// A larger one gets an allocation of its own: it would keep a chunk to itself, or leave much of one unused.
const CHUNKED: usize = 2 * 1024;

/// Reads messages of one consumer: what their envelopes have in common is kept once.
#[derive(Debug, Default)]
pub struct Reader {
    remembered: Remembered,
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
    /// The headers are gone through a second time if there is no event.
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
        let mut attributes = Attributes::default();
        let mut content_type = None;
        let mut plain: SmallVec<[(&str, &[u8]); 8]> = SmallVec::new();
        for (name, value) in headers.clone() {
            match attribute_name(name) {
                Some(attribute) => attributes.add(attribute, value),
                None if is_content_type(name) => content_type = Some(value),
                None => plain.push((name, value)),
            }
        }
        if !attributes.is_event() {
            // What looks like an attribute is a header like any other.
            attributes = Attributes::default();
            plain = headers.into_iter().filter(|(name, _)| !is_content_type(name)).collect();
        }
        message.content_type = content_type.and_then(|text| self.media_type(text));
        if let Some(content_type) = &message.content_type
            && content_type.get(..STRUCTURED.len()).is_some_and(|start| start.eq_ignore_ascii_case(STRUCTURED))
        {
            message.headers = plain.iter().copied().collect();
            return self.read_structured(message);
        }
        match attributes.envelope(&mut self.remembered) {
            Ok(envelope) => message.envelope = envelope,
            Err(defect) => message.defect = Some(Name::from(defect)),
        }
        if let Some(envelope) = &mut message.envelope {
            match attributes.time(&mut self.remembered) {
                Ok(time) => envelope.time = time,
                Err(defect) => message.defect = Some(Name::from(defect)),
            }
            // The hop's copy of the trace goes out anew with the attribute.
            plain.retain(|(name, value)| {
                !(matches!(*name, "traceparent" | "tracestate") && attributes.has(name, value))
            });
        }
        message.attributes = attributes.others();
        message.headers = plain.iter().copied().collect();
    }

    /// The name of a media type, if it is text: the one that nearly every message has costs nothing.
    fn media_type(&mut self, text: &[u8]) -> Option<Name> {
        if text == JSON.as_bytes() { Some(JSON) } else { self.remembered.name(text).ok() }
    }

    /// Takes a structured event apart. On a defect the message stays as it came.
    fn read_structured(&mut self, message: &mut Message) {
        match self.parse_structured(&message.payload) {
            Ok(event) => {
                message.envelope = Some(event.envelope);
                message.attributes = event.attributes;
                message.content_type = event.content_type.or(Some(JSON));
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
            Some(Value::String(text)) => self.media_type(text.as_bytes()),
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
        let mut attributes = Attributes::default();
        texts.iter().for_each(|(name, text)| attributes.add(name, text.as_bytes()));
        let envelope = attributes.envelope(&mut self.remembered)?;
        let mut envelope = envelope.ok_or("the required attribute \"specversion\" is missing")?;
        envelope.time = attributes.time(&mut self.remembered)?;
        Ok(Structured { envelope, attributes: attributes.others(), content_type, payload: data.into() })
    }
}

fn is_content_type(header: &str) -> bool {
    header == CONTENT_TYPE || header.eq_ignore_ascii_case(CONTENT_TYPE)
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

    #[test]
    fn small_copies_share_a_chunk() {
        let mut reader = Reader::default();
        let (small, large) = (reader.copy(b"abc"), reader.copy(&vec![7; CHUNKED + 1]));
        assert_eq!((&small[..], large.len()), (&b"abc"[..], CHUNKED + 1));
        for length in 0..CHUNKED {
            assert_eq!(reader.copy(&vec![1; length]), vec![1; length]);
        }
        assert_eq!(&small[..], b"abc");
    }
}
