//! From a record of Kafka to a [`Message`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use messaging::{Message, Name, cloudevents};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};

/// Reads a record: its bytes are copied out of the client's buffer once.
pub(crate) fn read(topic: &Name, record: &BorrowedMessage<'_>) -> Message {
    let key = record.key().map(Bytes::copy_from_slice);
    let payload = record.payload().map(Bytes::copy_from_slice).unwrap_or_default();
    let Some(headers) = record.headers() else {
        return cloudevents::read(topic.clone(), key, payload, []);
    };
    // The client library panics on a header whose name is not UTF-8, which nothing keeps another program from writing.
    let read = catch_unwind(AssertUnwindSafe(|| {
        let headers = headers.iter().map(|header| (header.key, header.value.unwrap_or_default()));
        cloudevents::read(topic.clone(), key.clone(), payload.clone(), headers)
    }));
    read.unwrap_or_else(|_| {
        let mut message = Message::new(topic.clone(), payload);
        message.key = key;
        message.defect = Some(Name::from_static("a header's name is not UTF-8"));
        message
    })
}
