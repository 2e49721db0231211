//! From a record of Kafka to a [`Message`].

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use messaging::{Message, Name, cloudevents::Reader};
use rdkafka::message::{BorrowedMessage, Headers};
use smallvec::SmallVec;

/// Names and values in their order.
pub(crate) type HeaderList<'a> = SmallVec<[(&'a str, &'a [u8]); 16]>;

/// A header's name is not UTF-8.
#[derive(Debug)]
pub(crate) struct NotText;

/// What is read of a record, whoever hands it out.
pub(crate) trait Record {
    fn topic(&self) -> &str;
    fn partition(&self) -> i32;
    fn offset(&self) -> i64;
    /// In milliseconds since the Unix epoch; −1 without one.
    fn time(&self) -> i64;
    fn key(&self) -> Option<&[u8]>;
    fn payload(&self) -> Option<&[u8]>;
    fn headers<'a>(&'a self, list: &mut HeaderList<'a>) -> Result<(), NotText>;
}

/// Reads a single record.
pub(crate) fn read(topic: &Name, record: &impl Record) -> Arc<Message> {
    read_with(&mut Reader::default(), topic, record)
}

/// Reads one of many records: its bytes are copied out of the client's buffer once, and the message is written where it
/// stays.
pub(crate) fn read_with(reader: &mut Reader, topic: &Name, record: &impl Record) -> Arc<Message> {
    let payload = record.payload().map(|payload| reader.copy(payload)).unwrap_or_default();
    let mut shared = Arc::new(Message::new(topic.clone(), payload));
    // Nobody else has it yet.
    let Some(message) = Arc::get_mut(&mut shared) else { return shared };
    message.key = record.key().map(|key| reader.copy(key));
    let mut headers = HeaderList::new();
    match record.headers(&mut headers) {
        Ok(()) => reader.read_headers(message, headers.iter().copied()),
        Err(NotText) => message.defect = Some(Name::from_static("a header's name is not UTF-8")),
    }
    if message.envelope.is_none() {
        // A topic that was deleted and made anew has the same offsets: the time tells them apart.
        let (partition, offset, time) = (record.partition(), record.offset(), record.time().max(0));
        message.attributes = message.attributes.with(Message::POSITION_ID, format!("{partition}/{offset}@{time}"));
    }
    shared
}

impl Record for BorrowedMessage<'_> {
    fn topic(&self) -> &str {
        rdkafka::Message::topic(self)
    }

    fn partition(&self) -> i32 {
        rdkafka::Message::partition(self)
    }

    fn offset(&self) -> i64 {
        rdkafka::Message::offset(self)
    }

    fn time(&self) -> i64 {
        rdkafka::Message::timestamp(self).to_millis().unwrap_or(-1)
    }

    fn key(&self) -> Option<&[u8]> {
        rdkafka::Message::key(self)
    }

    fn payload(&self) -> Option<&[u8]> {
        rdkafka::Message::payload(self)
    }

    fn headers<'a>(&'a self, list: &mut HeaderList<'a>) -> Result<(), NotText> {
        let Some(headers) = rdkafka::Message::headers(self) else { return Ok(()) };
        // `rdkafka` panics on a name that is not UTF-8, which nothing keeps another program from writing.
        let listed = catch_unwind(AssertUnwindSafe(|| {
            list.extend(headers.iter().map(|header| (header.key, header.value.unwrap_or_default())));
        }));
        listed.map_err(|_| NotText)
    }
}
