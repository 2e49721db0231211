//! [`Message`]: what travels, as bytes, before anyone decodes it.

use bytes::Bytes;

use crate::{envelope::Envelope, headers::Headers, name::Name};

/// One message: topic, key, payload, headers, and the envelope if it is an event.
///
/// Backends move messages; [`Event`](crate::Event) gives them a typed face. Shared as `Arc<Message>`, so that a
/// delivery to several groups copies nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Where it is published.
    pub topic: Name,
    /// Orders it: messages of one topic and key are handled one after the other. `""` is a key; `None` is not.
    pub key: Option<Bytes>,
    /// The data, encoded as [`content_type`](Self::content_type) says.
    pub payload: Bytes,
    /// The payload's media type, if known.
    pub content_type: Option<Name>,
    /// Id, source, name and time, if the message is an event.
    pub envelope: Option<Envelope>,
    /// The event's further CloudEvents attributes by their names: `subject`, `dataschema`, `traceparent`, extensions. Of a
    /// message without an envelope at most [`POSITION_ID`](Self::POSITION_ID), which is not sent on.
    pub attributes: Headers,
    /// Headers that are no attributes.
    pub headers: Headers,
    /// Why the envelope could not be read, if there was a broken one; such a message is malformed for every handler.
    pub defect: Option<Name>,
}

impl Message {
    /// The attribute by which a backend tells what a message without an envelope is known by, if its partition and
    /// position alone do not say it ([`Broker::log`](crate::Broker::log)).
    pub const POSITION_ID: &str = "positionid";
    /// The header by which the producer of a message without an envelope says what it is known by, as AMQP's
    /// `message-id`.
    pub const MESSAGE_ID: &str = "message-id";

    /// A message without key, envelope and headers.
    #[must_use]
    pub fn new(topic: impl Into<Name>, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            key: None,
            payload: payload.into(),
            content_type: None,
            envelope: None,
            attributes: Headers::new(),
            headers: Headers::new(),
            defect: None,
        }
    }

    /// With this key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With this envelope.
    #[must_use]
    pub fn with_envelope(mut self, envelope: Envelope) -> Self {
        self.envelope = Some(envelope);
        self
    }

    /// With this media type for the payload.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<Name>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// With one more header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers = self.headers.with(name, value);
        self
    }

    /// The event's name (CloudEvents `type`), if the message is an event.
    #[inline]
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.envelope.as_ref().map(|envelope| envelope.name.as_str())
    }

    /// What the message weighs against the limits on bytes: key, payload, attributes and headers.
    #[inline]
    #[must_use]
    pub fn weight(&self) -> usize {
        self.payload.len() + self.key.as_ref().map_or(0, Bytes::len) + self.attributes.weight() + self.headers.weight()
    }
}
