//! [`Event<T>`]: typed data in its CloudEvents envelope; [`EventData`] says what kind of event a type is.

use std::{fmt, sync::Arc};

use bytes::BytesMut;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    codec::{self, Codecs},
    delivery::Delivery,
    envelope::{Envelope, EventId},
    error::Error,
    headers::Headers,
    key::EventKey,
    message::Message,
    name::Name,
    timestamp::Timestamp,
};

/// Data that is published as an event: its name, topic and key. Usually derived:
///
/// ```
/// # use messaging::EventData;
/// #[derive(EventData, serde::Serialize, serde::Deserialize)]
/// #[event(name = "orders.created", topic = "order-events", key = order_id)]
/// struct OrderCreated {
///     order_id: i64,
/// }
/// ```
pub trait EventData: Serialize {
    /// The event's name (CloudEvents `type`), by which handlers are found.
    const NAME: &'static str;
    /// The topic it is published to.
    const TOPIC: &'static str;
    /// The media type of its payload, which picks the codec.
    const CONTENT_TYPE: Name = codec::JSON;

    /// Appends the key and answers `true`, or answers `false` if this event has none and is in no order.
    fn write_key(&self, key: &mut BytesMut) -> bool;
}

/// A source that is filled in by whoever publishes the event.
const UNSET: Name = Name::from_static("");

/// Data of type `T` with the envelope it came in, or will go out in.
///
/// In a handler it is an argument. In a unit test of a handler, [`Event::new`] makes one:
///
/// ```
/// # use messaging::{Event, EventData};
/// # #[derive(EventData, serde::Serialize)]
/// # #[event(name = "orders.created", topic = "order-events", key = order_id)]
/// # struct OrderCreated { order_id: i64 }
/// async fn on_order_created(event: Event<OrderCreated>) -> i64 {
///     event.data.order_id
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// assert_eq!(on_order_created(Event::new(OrderCreated { order_id: 7 })).await, 7);
/// # }
/// ```
#[derive(Clone)]
pub struct Event<T> {
    /// The data.
    pub data: T,
    pub(crate) message: Arc<Message>,
}

impl<T: EventData> Event<T> {
    /// An event with a new id, the present time, and the key that its data gives it.
    pub fn new(data: T) -> Self {
        let mut key = BytesMut::new();
        let key = data.write_key(&mut key).then(|| key.freeze());
        let mut event = Self::named(Name::from_static(T::NAME), Name::from_static(T::TOPIC), data);
        let message = event.edit();
        message.key = key;
        message.content_type = Some(T::CONTENT_TYPE);
        event
    }
}

impl<T> Event<T> {
    /// An event of this name for this topic, without a key: for data whose type says neither.
    pub fn named(name: impl Into<Name>, topic: impl Into<Name>, data: T) -> Self {
        let time = Timestamp::now();
        let envelope = Envelope { id: EventId::at(time), source: UNSET, name: name.into(), time: Some(time) };
        let message =
            Message::new(topic.into(), bytes::Bytes::new()).with_envelope(envelope).with_content_type(codec::JSON);
        Self { data, message: Arc::new(message) }
    }

    /// An event from the message that carries it, decoded by the message's content type.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed), naming the event and what is wrong with the payload.
    pub fn decode(message: impl Into<Arc<Message>>, codecs: &Codecs) -> Result<Self, Error>
    where
        T: DeserializeOwned,
    {
        let message = message.into();
        Ok(Self { data: codecs.decode(&message)?, message })
    }

    pub(crate) fn received(data: T, delivery: &Delivery) -> Self {
        Self { data, message: delivery.message.clone() }
    }

    /// With this id instead of a new one: for an event that is published again under its own id.
    #[must_use]
    pub fn with_id(mut self, id: EventId) -> Self {
        self.edit_envelope().id = id;
        self
    }

    /// With this source instead of the publisher's.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Name>) -> Self {
        self.edit_envelope().source = source.into();
        self
    }

    /// With this time instead of the present.
    #[must_use]
    pub fn with_time(mut self, time: Timestamp) -> Self {
        self.edit_envelope().time = Some(time);
        self
    }

    /// With this key instead of the data's.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<bytes::Bytes>) -> Self {
        self.edit().key = Some(key.into());
        self
    }

    /// With this key instead of the data's, in the bytes that [`EventData`] would give it; without a key if it is `None`.
    #[must_use]
    pub fn keyed_by(mut self, key: &impl EventKey) -> Self {
        let mut bytes = BytesMut::new();
        self.edit().key = key.write_key(&mut bytes).then(|| bytes.freeze());
        self
    }

    /// With this subject (CloudEvents `subject`).
    #[must_use]
    pub fn with_subject(self, subject: &str) -> Self {
        self.with_attribute("subject", subject)
    }

    /// With this schema of the data (CloudEvents `dataschema`).
    #[must_use]
    pub fn with_data_schema(self, uri: &str) -> Self {
        self.with_attribute("dataschema", uri)
    }

    /// As part of this conversation (extension `correlationid`).
    #[must_use]
    pub fn with_correlation_id(self, id: &str) -> Self {
        self.with_attribute("correlationid", id)
    }

    /// As a consequence of `cause`: its id becomes the causation id, and its conversation (its own id, if it began one)
    /// goes on. The trace goes on too.
    #[must_use]
    pub fn caused_by<U>(self, cause: &Event<U>) -> Self {
        let id = cause.id().map(ToString::to_string).unwrap_or_default();
        let correlation = cause.correlation_id().unwrap_or(&id).to_owned();
        let mut event = self.with_attribute("causationid", &id).with_attribute("correlationid", &correlation);
        for name in ["traceparent", "tracestate"] {
            if let Some(value) = cause.attribute(name) {
                event = event.with_attribute(name, value);
            }
        }
        event
    }

    /// With a CloudEvents attribute beside those that have a method of their own. A later one of the same name wins.
    #[must_use]
    pub fn with_attribute(mut self, name: &str, value: &str) -> Self {
        let message = self.edit();
        message.attributes = message.attributes.with(name, value);
        self
    }

    /// With a header that is no attribute.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let message = self.edit();
        message.headers = message.headers.with(name, value);
        self
    }

    /// The id; `None` if the message came without an envelope.
    pub fn id(&self) -> Option<&EventId> {
        self.message.envelope.as_ref().map(|envelope| &envelope.id)
    }

    /// Who made the event; empty before it is published, or if the message came without an envelope.
    pub fn source(&self) -> &str {
        self.message.envelope.as_ref().map_or("", |envelope| envelope.source.as_str())
    }

    /// The event's name; empty if the message came without an envelope.
    pub fn name(&self) -> &str {
        self.message.name().unwrap_or("")
    }

    /// When it happened, if it says so.
    pub fn time(&self) -> Option<Timestamp> {
        self.message.envelope.as_ref().and_then(|envelope| envelope.time)
    }

    /// Its topic.
    pub fn topic(&self) -> &str {
        &self.message.topic
    }

    /// Its key.
    pub fn key(&self) -> Option<&[u8]> {
        self.message.key.as_deref()
    }

    /// Its subject.
    pub fn subject(&self) -> Option<&str> {
        self.attribute("subject")
    }

    /// The conversation it is part of.
    pub fn correlation_id(&self) -> Option<&str> {
        self.attribute("correlationid")
    }

    /// The id of the event that caused it.
    pub fn causation_id(&self) -> Option<&str> {
        self.attribute("causationid")
    }

    /// A CloudEvents attribute that has no method of its own, extensions among them.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.message.attributes.get_str(name)
    }

    /// The headers that are no attributes.
    pub fn headers(&self) -> &Headers {
        &self.message.headers
    }

    /// The same envelope around other data.
    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Event<U> {
        Event { data: map(self.data), message: self.message }
    }

    fn edit(&mut self) -> &mut Message {
        Arc::make_mut(&mut self.message)
    }

    fn edit_envelope(&mut self) -> &mut Envelope {
        self.edit().envelope.get_or_insert_with(|| Envelope {
            id: EventId::generate(),
            source: UNSET,
            name: UNSET,
            time: None,
        })
    }
}

impl<T: fmt::Debug> fmt::Debug for Event<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("envelope", &self.message.envelope)
            .field("key", &self.message.key)
            .field("data", &self.data)
            .finish()
    }
}
