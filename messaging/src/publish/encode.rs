//! [`Encoder`]: turns data and events into messages with one allocation each, the message itself.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use serde::Serialize;

use crate::{
    codec::{self, Codecs},
    envelope::{Envelope, EventId, Timestamp},
    error::Error,
    event::{Event, EventData},
    headers::Headers,
    message::Message,
    name::Name,
};

/// Payloads and keys are cut from chunks of this size, so that a small message costs no allocation of its own. A
/// message keeps its chunk alive: small, so that a long-parked one holds little.
const CHUNK: usize = 8 * 1024;

pub(crate) struct Encoder {
    source: Name,
    codecs: Codecs,
    chunk: Mutex<BytesMut>,
}

impl Encoder {
    pub(crate) fn new(source: Name, codecs: Codecs) -> Self {
        Self { source, codecs, chunk: Mutex::new(BytesMut::new()) }
    }

    /// The message of data that says its own name, topic and key.
    pub(crate) fn data<T: EventData>(&self, data: &T) -> Result<Arc<Message>, Error> {
        let time = Timestamp::now();
        let envelope = Envelope {
            id: EventId::at(time),
            source: self.source.clone(),
            name: Name::from_static(T::NAME),
            time: Some(time),
        };
        let (payload, key) =
            self.write(|codecs, chunk| codecs.encode(&T::CONTENT_TYPE, data, chunk), |key| data.write_key(key))?;
        Ok(Arc::new(Message {
            topic: Name::from_static(T::TOPIC),
            key,
            payload,
            content_type: Some(T::CONTENT_TYPE),
            envelope: Some(envelope),
            attributes: Headers::new(),
            headers: Headers::new(),
            defect: None,
        }))
    }

    /// The message of an event.
    pub(crate) fn event<T: Serialize>(&self, event: Event<T>) -> Result<Arc<Message>, Error> {
        let content_type = event.message.content_type.clone().unwrap_or(codec::JSON);
        let (payload, _) = self.write(|codecs, chunk| codecs.encode(&content_type, &event.data, chunk), |_| false)?;
        let mut shared = event.message;
        let message = Arc::make_mut(&mut shared);
        message.payload = payload;
        if let Some(envelope) = &mut message.envelope
            && envelope.source.is_empty()
        {
            envelope.source = self.source.clone();
        }
        Ok(shared)
    }

    fn write(
        &self,
        payload: impl FnOnce(&Codecs, &mut BytesMut) -> Result<(), Error>,
        key: impl FnOnce(&mut BytesMut) -> bool,
    ) -> Result<(Bytes, Option<Bytes>), Error> {
        let mut chunk = self.chunk.lock();
        if chunk.capacity() < CHUNK / 16 {
            *chunk = BytesMut::with_capacity(CHUNK);
        }
        if let Err(error) = payload(&self.codecs, &mut chunk) {
            chunk.clear();
            return Err(error);
        }
        let payload = chunk.split().freeze();
        let key = key(&mut chunk).then(|| chunk.split().freeze());
        chunk.clear();
        Ok((payload, key))
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("source", &self.source).field("codecs", &self.codecs).finish_non_exhaustive()
    }
}
