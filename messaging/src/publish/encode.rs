//! [`Encoder`]: turns data and events into messages with one allocation each, the message itself; with none where a
//! message that the backend has let go makes place.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use serde::Serialize;

use crate::{
    codec::{self, Codecs},
    envelope::{Envelope, EventId},
    error::Error,
    event::{Event, EventData},
    headers::Headers,
    message::Message,
    name::Name,
    timestamp::Timestamp,
    trace::TracePropagator,
};

/// Payloads and keys are cut from chunks of this size, so that a small message costs no allocation of its own. A
/// message keeps its chunk alive: small, so that a long-parked one holds little.
const CHUNK: usize = 8 * 1024;

/// Makes the messages that a [`Messaging`](crate::Messaging) would publish, without a broker: for whoever records them, to
/// be published later.
pub struct Encoder {
    source: Name,
    codecs: Codecs,
    propagator: Option<Arc<dyn TracePropagator>>,
    buffers: Mutex<Buffers>,
}

struct Buffers {
    /// What payloads and keys are cut from.
    chunk: BytesMut,
    /// Where a payload is written first: formats write in small pieces, for which a `Vec` is the fastest.
    scratch: Vec<u8>,
    random: fastrand::Rng,
    /// A message that nobody else has: the next one takes its place.
    spare: Option<Arc<Message>>,
}

impl Encoder {
    pub(crate) fn new(source: Name, codecs: Codecs, propagator: Option<Arc<dyn TracePropagator>>) -> Self {
        let (chunk, scratch, random) = (BytesMut::new(), Vec::new(), fastrand::Rng::new());
        let buffers = Mutex::new(Buffers { chunk, scratch, random, spare: None });
        Self { source, codecs, propagator, buffers }
    }

    /// One with the same source, codecs and propagator, and with buffers of its own.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.source.clone(), self.codecs.clone(), self.propagator.clone())
    }

    /// The message of data that says its own name, topic and key.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if the data cannot be encoded.
    #[inline]
    pub fn data<T: EventData>(&self, data: &T) -> Result<Arc<Message>, Error> {
        let time = Timestamp::now();
        let mut buffers = self.buffers.lock();
        let payload = buffers.encode(&self.codecs, &T::CONTENT_TYPE, data)?;
        let key = buffers.key(|key| data.write_key(key));
        let (a, b) = (buffers.random.u64(..), buffers.random.u64(..));
        let spare = buffers.spare.take();
        drop(buffers);
        let mut shared = spare.unwrap_or_else(|| Arc::new(Message::new(Name::from_static(T::TOPIC), Bytes::new())));
        #[expect(clippy::expect_used, reason = "`reuse` takes only what nobody else has")]
        let message = Arc::get_mut(&mut shared).expect("nobody else has a spare message");
        // Field by field: a whole message would be made elsewhere and moved here.
        message.topic = Name::from_static(T::TOPIC);
        message.key = key;
        message.payload = payload;
        message.content_type = Some(T::CONTENT_TYPE);
        message.envelope = Some(Envelope {
            id: EventId::from_parts(time, a, b),
            source: self.source.clone(),
            name: Name::from_static(T::NAME),
            time: Some(time),
        });
        message.attributes = self.traced(&Headers::new()).unwrap_or_default();
        message.headers = Headers::new();
        message.defect = None;
        Ok(shared)
    }

    /// Takes a message that is done with, so that the next one takes its place, unless somebody has it still.
    #[inline]
    pub(crate) fn reuse(&self, mut message: Arc<Message>) {
        if Arc::get_mut(&mut message).is_some() {
            self.buffers.lock().spare = Some(message);
        }
    }

    /// These attributes with the place of the current span; `None` if they stay as they are.
    #[inline]
    fn traced(&self, attributes: &Headers) -> Option<Headers> {
        let context = self.propagator.as_ref()?.current()?;
        Some(context.into_attributes(attributes))
    }

    /// The message of an event.
    ///
    /// # Errors
    /// As [`data`](Self::data).
    pub fn event<T: Serialize>(&self, event: Event<T>) -> Result<Arc<Message>, Error> {
        let content_type = event.message.content_type.clone().unwrap_or(codec::JSON);
        let payload = self.buffers.lock().encode(&self.codecs, &content_type, &event.data)?;
        let mut shared = event.message;
        let message = Arc::make_mut(&mut shared);
        message.payload = payload;
        if let Some(attributes) = self.traced(&message.attributes) {
            message.attributes = attributes;
        }
        if let Some(envelope) = &mut message.envelope
            && envelope.source.is_empty()
        {
            envelope.source = self.source.clone();
        }
        Ok(shared)
    }
}

impl Buffers {
    #[inline]
    fn encode<T: Serialize>(&mut self, codecs: &Codecs, content_type: &str, data: &T) -> Result<Bytes, Error> {
        self.scratch.clear();
        codecs.encode(content_type, data, &mut self.scratch)?;
        self.reserve(self.scratch.len());
        self.chunk.extend_from_slice(&self.scratch);
        // One large payload does not keep its buffer.
        if self.scratch.capacity() > 64 * CHUNK {
            self.scratch = Vec::new();
        }
        Ok(self.chunk.split().freeze())
    }

    #[inline]
    fn key(&mut self, write: impl FnOnce(&mut BytesMut) -> bool) -> Option<Bytes> {
        let written = write(&mut self.chunk);
        let key = written.then(|| self.chunk.split().freeze());
        self.chunk.clear();
        key
    }

    /// Room for so many bytes and a short key: in this chunk, or in a new one.
    #[inline]
    fn reserve(&mut self, payload: usize) {
        if self.chunk.capacity() < payload + 64 {
            self.chunk = BytesMut::with_capacity(CHUNK.max(payload + 64));
        }
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("source", &self.source).field("codecs", &self.codecs).finish_non_exhaustive()
    }
}
