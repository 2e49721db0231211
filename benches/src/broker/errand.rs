//! [`Errand`]: one round's work, the same for both sides, and the record of what arrived.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use anyhow::ensure;
use bytes::Bytes;
use messaging::{EventId, Name, Timestamp};
use tokio::sync::Notify;

use super::cost::{Cost, Mark};

/// The name of every event, which consumers choose their handler by.
pub(crate) const EVENT: &str = "items.counted";
/// The source of every event.
pub(crate) const SOURCE: &str = "benches";

const KEYS: u64 = 1_000;
/// A payload begins with the message's number.
const NUMBER_BYTES: usize = 8;

/// So many events of one size, from one topic to one group.
pub(crate) struct Errand {
    pub(crate) topic: Name,
    pub(crate) group: Name,
    pub(crate) partitions: u32,
    pub(crate) messages: u64,
    payload_bytes: usize,
    pub(crate) arrivals: Arrivals,
}

/// What one event is made of, made anew for each by both sides.
pub(crate) struct Parts {
    pub(crate) key: String,
    pub(crate) payload: Bytes,
    pub(crate) id: EventId,
    pub(crate) time: Timestamp,
}

impl Errand {
    pub(crate) fn new(name: &str, partitions: u32, messages: u64, payload_bytes: usize) -> Self {
        let payload_bytes = payload_bytes.max(NUMBER_BYTES);
        Self {
            topic: Name::new(name),
            group: Name::new(&format!("{name}-group")),
            partitions,
            messages,
            payload_bytes,
            arrivals: Arrivals::new(messages, payload_bytes),
        }
    }

    /// The event of this number.
    pub(crate) fn parts(&self, number: u64) -> Parts {
        let mut payload = vec![b'x'; self.payload_bytes];
        payload[..NUMBER_BYTES].copy_from_slice(&number.to_be_bytes());
        let key = (number % KEYS).to_string();
        Parts { key, payload: payload.into(), id: EventId::generate(), time: Timestamp::now() }
    }
}

/// Which messages have arrived; shared by all who handle them.
pub(crate) struct Arrivals {
    /// A bit for each message.
    seen: Vec<AtomicU64>,
    messages: u64,
    payload_bytes: usize,
    distinct: AtomicU64,
    repeated: AtomicU64,
    foreign: AtomicU64,
    first: OnceLock<Mark>,
    last: OnceLock<Mark>,
    complete: Notify,
}

impl Arrivals {
    fn new(messages: u64, payload_bytes: usize) -> Self {
        Self {
            seen: (0..messages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            messages,
            payload_bytes,
            distinct: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            first: OnceLock::new(),
            last: OnceLock::new(),
            complete: Notify::new(),
        }
    }

    /// Takes note of one message.
    pub(crate) fn note(&self, payload: &[u8]) {
        self.first.get_or_init(Mark::now);
        let number = payload.first_chunk().map(|number| u64::from_be_bytes(*number));
        let Some(number) = number.filter(|number| *number < self.messages && payload.len() == self.payload_bytes)
        else {
            self.foreign.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let bit = 1 << (number % 64);
        if self.seen[(number / 64) as usize].fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            self.repeated.fetch_add(1, Ordering::Relaxed);
        } else if self.distinct.fetch_add(1, Ordering::Relaxed) + 1 == self.messages {
            self.last.get_or_init(Mark::now);
            self.complete.notify_one();
        }
    }

    /// Whether every message has arrived.
    pub(crate) fn is_complete(&self) -> bool {
        self.last.get().is_some()
    }

    /// Waits until every message has arrived; for one waiter.
    pub(crate) async fn complete(&self) {
        if !self.is_complete() {
            self.complete.notified().await;
        }
    }

    /// How many have arrived.
    pub(crate) fn count(&self) -> u64 {
        self.distinct.load(Ordering::Relaxed)
    }

    /// What it took from the first arrival to the last.
    ///
    /// # Errors
    /// If a message is missing, or came more than once, or one came that nobody sent.
    pub(crate) fn verdict(&self) -> anyhow::Result<Cost> {
        let (repeated, foreign) = (self.repeated.load(Ordering::Relaxed), self.foreign.load(Ordering::Relaxed));
        ensure!(
            self.count() == self.messages && repeated == 0 && foreign == 0,
            "{} of {} messages arrived, {repeated} more than once, {foreign} that nobody sent",
            self.count(),
            self.messages
        );
        let (first, last) = (self.first.get(), self.last.get());
        first.zip(last).map(|(first, last)| last.since(*first)).ok_or_else(|| anyhow::anyhow!("nothing arrived"))
    }
}
