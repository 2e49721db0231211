//! From a record of Kafka to a [`Message`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use messaging::{Message, Name, cloudevents::Reader};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};

/// Reads a single record.
pub(crate) fn read(topic: &Name, record: &BorrowedMessage<'_>) -> Message {
    read_with(&mut Reader::default(), topic, record)
}

/// Reads one of many records: its bytes are copied out of the client's buffer once.
pub(crate) fn read_with(reader: &mut Reader, topic: &Name, record: &BorrowedMessage<'_>) -> Message {
    let mut message = read_bytes(reader, topic, record);
    if message.envelope.is_none() {
        // A topic that was deleted and made anew has the same offsets: the time tells them apart.
        let (partition, offset) = (record.partition(), record.offset());
        let time = record.timestamp().to_millis().unwrap_or_default();
        message.attributes = message.attributes.with(Message::POSITION_ID, format!("{partition}/{offset}@{time}"));
    }
    message
}

fn read_bytes(reader: &mut Reader, topic: &Name, record: &BorrowedMessage<'_>) -> Message {
    let key = record.key().map(|key| reader.copy(key));
    let payload = record.payload().map(|payload| reader.copy(payload)).unwrap_or_default();
    let Some(headers) = record.headers() else {
        return reader.read(topic.clone(), key, payload, []);
    };
    // The client library panics on a header whose name is not UTF-8, which nothing keeps another program from writing.
    let read = catch_unwind(AssertUnwindSafe(|| {
        let headers = headers.iter().map(|header| (header.key, header.value.unwrap_or_default()));
        reader.read(topic.clone(), key.clone(), payload.clone(), headers)
    }));
    read.unwrap_or_else(|_| {
        let mut message = Message::new(topic.clone(), payload);
        message.key = key;
        message.defect = Some(Name::from_static("a header's name is not UTF-8"));
        message
    })
}
