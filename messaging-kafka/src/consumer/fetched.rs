//! [`Fetched`]: the client's fetched messages, many at a call. The one place with `unsafe` in this workspace.
//!
//! `rdkafka` takes one message at a call, each through an event of its own; librdkafka can hand out a thousand at once from a
//! queue, which nearly halves what reading a message costs (`cargo xtask bench kafka`). Only the partitions' messages come
//! this way: rebalances, errors of the client and answers stay with the consumer's own queue, as the client wants it.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_void},
    ptr::{self, NonNull},
    slice,
    sync::Arc,
};

use rdkafka::{
    bindings as native,
    consumer::{BaseConsumer, Consumer},
    types::{RDKafka, RDKafkaErrorCode as Code, RDKafkaMessage, RDKafkaQueue, RDKafkaRespErr},
};

use super::{context::Context, inbox::Inbox};
use crate::record::{HeaderList, NotText, Record};

/// How many messages are taken at once.
pub(super) const TURN: usize = 1_024;

/// A queue of its own for the messages of all partitions that are forwarded to it.
pub(super) struct Fetched {
    queue: NonNull<RDKafkaQueue>,
    batch: Vec<*mut RDKafkaMessage>,
    /// Whom the client wakes, by a pointer; kept for as long.
    _inbox: Arc<Inbox>,
    /// The queue is the client's: the client ends after it.
    consumer: Arc<BaseConsumer<Context>>,
}

// SAFETY: librdkafka's queues may be used from any thread, and nothing here is shared: the batch is empty between calls.
unsafe impl Send for Fetched {}

impl Fetched {
    /// An empty queue, which wakes the inbox whenever it gets something to hold.
    pub(super) fn new(consumer: Arc<BaseConsumer<Context>>, inbox: Arc<Inbox>) -> Option<Self> {
        // SAFETY: the client lives as long as `consumer`.
        let queue = NonNull::new(unsafe { native::rd_kafka_queue_new(consumer.client().native_ptr()) })?;
        // SAFETY: the inbox lives as long as `self`, whose drop takes the callback back under the queue's lock.
        unsafe {
            native::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(wake), Arc::as_ptr(&inbox) as *mut c_void)
        };
        Some(Self { queue, batch: Vec::with_capacity(TURN), _inbox: inbox, consumer })
    }

    /// Lets the messages of a partition come here from now on, also when it is assigned again later.
    pub(super) fn forward(&self, topic: &str, partition: i32) {
        let Ok(topic) = CString::new(topic) else { return };
        let client = self.consumer.client().native_ptr();
        // SAFETY: the client lives as long as `self`; the name is read during the call only. The partition's queue is ours
        // to destroy, which gives back this reference to it.
        unsafe {
            let queue = native::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition);
            if !queue.is_null() {
                native::rd_kafka_queue_forward(queue, self.queue.as_ptr());
                native::rd_kafka_queue_destroy(queue);
            }
        }
    }

    /// Takes up to [`TURN`] messages that are there. Answers how many.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Result<&Native<'_>, Code>)) -> usize {
        // SAFETY: there is room for so many pointers, and the client writes as many as it answers.
        let taken = unsafe {
            let room = self.batch.spare_capacity_mut();
            let messages = room.as_mut_ptr().cast::<*mut RDKafkaMessage>();
            let taken = native::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, messages, room.len().min(TURN));
            let taken = usize::try_from(taken).unwrap_or(0);
            self.batch.set_len(taken);
            taken
        };
        for message in self.batch.drain(..).filter_map(NonNull::new).map(Taken) {
            // SAFETY: the message is ours until `Taken` is dropped.
            let native = Native(unsafe { message.0.as_ref() });
            each(match native.0.err {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(&native),
                error => Err(error.into()),
            });
        }
        taken
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        // SAFETY: the queue is destroyed once, while the client lives. The callback is taken back first; the client calls
        // it under the lock that this takes, so that none is under way when the inbox goes.
        unsafe {
            native::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            native::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// What the client calls when the queue is not empty any more.
///
/// # Safety
/// `inbox` points to an [`Inbox`] that lives.
unsafe extern "C" fn wake(_: *mut RDKafka, inbox: *mut c_void) {
    // SAFETY: as `Fetched::new` has given it.
    unsafe { (*inbox.cast::<Inbox>()).wake() }
}

/// A message that the client has handed out, given back when it is dropped, whatever happens in between.
struct Taken(NonNull<RDKafkaMessage>);

impl Drop for Taken {
    fn drop(&mut self) {
        // SAFETY: it was handed out to be destroyed once.
        unsafe { native::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

/// A message as librdkafka keeps it.
pub(super) struct Native<'a>(&'a RDKafkaMessage);

impl Record for Native<'_> {
    fn topic(&self) -> &str {
        // SAFETY: a message names its topic, whose name ends with a zero and lives as long as the message.
        let name = unsafe { CStr::from_ptr(native::rd_kafka_topic_name(self.0.rkt)) };
        // As no topic's name is anything else.
        name.to_str().unwrap_or_default()
    }

    fn partition(&self) -> i32 {
        self.0.partition
    }

    fn offset(&self) -> i64 {
        self.0.offset
    }

    fn time(&self) -> i64 {
        // SAFETY: the message lives; where the kind of the time would be written may be null.
        unsafe { native::rd_kafka_message_timestamp(self.0, ptr::null_mut()) }
    }

    fn key(&self) -> Option<&[u8]> {
        // SAFETY: the client's own pointer and length, for as long as the message lives.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    fn payload(&self) -> Option<&[u8]> {
        // SAFETY: as above.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    fn headers<'a>(&'a self, list: &mut HeaderList<'a>) -> Result<(), NotText> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message lives and keeps its headers; `headers` is written if there are some.
        let found = unsafe { native::rd_kafka_message_headers(self.0, &mut headers) };
        if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(());
        }
        for index in 0.. {
            let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the headers live as long as the message; an index past the last is answered by an error.
            let (name, value) = unsafe {
                let found = native::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut length);
                if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                    break;
                }
                (CStr::from_ptr(name), bytes(value, length))
            };
            list.push((name.to_str().map_err(|_| NotText)?, value.unwrap_or_default()));
        }
        Ok(())
    }
}

/// The bytes at a pointer of the client; `None` where it says that there is nothing.
///
/// # Safety
/// A pointer that is not null points to so many bytes, which do not change while `'a` lasts.
unsafe fn bytes<'a>(pointer: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller says.
    (!pointer.is_null()).then(|| unsafe { slice::from_raw_parts(pointer.cast(), length) })
}
