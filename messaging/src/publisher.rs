//! [`Publisher`]: what a backend implements to send, and the [`Batch`] it is given.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    delivery::Position,
    error::{Error, ErrorKind},
    headers::Headers,
    message::Message,
    publish::Front,
};

/// Sends batches of messages to one backend.
///
/// # What an implementation promises
/// - Batches are sent in the order of the calls of [`send`](Self::send), the messages of a batch in its order.
/// - Each message gets one [`Outcome`], at the latest at the publisher's deadline. *Rejected* means surely not stored;
///   whoever cannot tell says *unknown*.
/// - After a message of a key that was not confirmed, later ones of that key in the batch are not sent, where they can
///   still be stopped.
/// - A message is not sent twice unless the broker recognises the repeat.
#[async_trait]
pub trait Publisher: Send + Sync + 'static {
    /// Sends a batch, or hands it to whoever sends. Must not block: at most [`depth`](Self::depth) batches are out.
    fn send(&self, batch: Batch);

    /// Sends one message that is confirmed before this returns, for a backend that need not wait for anything. Must not
    /// overtake what was given to [`send`](Self::send). A message that the backend has let go meanwhile may be left in
    /// the place of the one that was sent: the next one is made of it.
    ///
    /// `None` if the message has to go by [`send`](Self::send), as it does unless a backend says otherwise; it stays
    /// where it is then.
    #[inline]
    fn send_now(&self, message: &mut Arc<Message>) -> Option<Receipt> {
        let _ = message;
        None
    }

    /// How many batches may be out at once.
    fn depth(&self) -> usize;

    /// The largest batch worth sending at once.
    fn max_batch(&self) -> usize {
        1_000
    }

    /// Sends what was handed over, waits for the outcomes and closes; what has no outcome by then is *unknown*.
    ///
    /// # Errors
    /// If something was still without an outcome at the deadline.
    async fn close(&self, deadline: Duration) -> Result<(), Error>;
}

/// Where a confirmed message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The partition of the topic.
    pub partition: u32,
    /// Its position there, where the broker tells.
    pub position: Option<Position>,
}

impl Receipt {
    /// A receipt.
    #[must_use]
    pub const fn new(partition: u32, position: Option<Position>) -> Self {
        Self { partition, position }
    }
}

/// How the publishing of one message ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Stored, as durably as the backend declares.
    Confirmed(Receipt),
    /// Surely not stored.
    Rejected(Error),
    /// May or may not be stored.
    Unknown(Error),
    /// On [`until_settled`](Batch::until_settled): every subscribed group has settled it.
    Settled(Settling),
}

/// How a message that was published until settled ended in its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settling {
    /// Handled or skipped by every group.
    Handled,
    /// Dead-lettered by at least one group, for this reason.
    DeadLettered(String),
    /// No group is subscribed: nobody has it.
    NoGroup,
}

impl Outcome {
    /// The receipt of a confirmed message.
    ///
    /// # Errors
    /// The reason of any other outcome, of kind [`ErrorKind::Rejected`] or [`ErrorKind::Unknown`].
    pub fn confirmed(self) -> Result<Receipt, Error> {
        match self {
            Self::Confirmed(receipt) => Ok(receipt),
            Self::Rejected(error) | Self::Unknown(error) => Err(error),
            Self::Settled(_) => Ok(Receipt::new(0, None)),
        }
    }

    /// Surely not stored, for this reason.
    #[must_use]
    pub fn rejected(reason: impl Into<String>) -> Self {
        Self::Rejected(Error::new(ErrorKind::Rejected, reason))
    }

    /// May or may not be stored, for this reason.
    #[must_use]
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown(Error::new(ErrorKind::Unknown, reason))
    }
}

/// Messages to be sent, in order, each to be answered with an [`Outcome`].
///
/// Whatever is left without one when the batch is dropped counts as *unknown*.
pub struct Batch {
    pub(crate) front: Arc<Front>,
    pub(crate) entries: Vec<BatchEntry>,
    pub(crate) until_settled: bool,
}

pub(crate) struct BatchEntry {
    pub(crate) message: Arc<Message>,
    /// The call that waits for it, and which of its messages this is.
    pub(crate) ticket: u32,
    pub(crate) index: u32,
    pub(crate) answered: bool,
}

impl Batch {
    /// How many messages there are, at least one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none, which never is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One message, counted from 0.
    #[inline]
    #[must_use]
    pub fn message(&self, index: usize) -> &Arc<Message> {
        &self.entries[index].message
    }

    /// One message has been copied to where it is sent from: frees its payload and its headers, unless somebody else has
    /// the message too. Its topic and key stay.
    ///
    /// What waits for its confirm would otherwise lie in memory twice.
    #[inline]
    pub fn release(&mut self, index: usize) {
        if let Some(message) = Arc::get_mut(&mut self.entries[index].message) {
            message.payload = Bytes::new();
            message.headers = Headers::new();
            message.attributes = Headers::new();
        }
    }

    /// The payload of one message, to be sent: taken out of it, so that it is freed as soon as that is done, unless
    /// somebody else has the message too.
    #[inline]
    pub fn take_payload(&mut self, index: usize) -> Bytes {
        let message = &mut self.entries[index].message;
        match Arc::get_mut(message) {
            Some(message) => std::mem::take(&mut message.payload),
            None => message.payload.clone(),
        }
    }

    /// Whether the publisher wants to know when every subscribed group has settled each message
    /// ([`settles_publishes`](crate::Capabilities::settles_publishes)), rather than when it is confirmed.
    #[must_use]
    pub fn until_settled(&self) -> bool {
        self.until_settled
    }

    /// Answers one message. A second answer to the same message has no effect.
    #[inline]
    pub fn complete(&mut self, index: usize, outcome: Outcome) {
        let entry = &mut self.entries[index];
        if !std::mem::replace(&mut entry.answered, true) {
            self.front.answer(entry.ticket, entry.index, outcome);
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for entry in &self.entries {
            if !entry.answered {
                self.front.answer(entry.ticket, entry.index, Outcome::unknown("the publisher ended without an answer"));
            }
        }
        self.front.batch_ended(std::mem::take(&mut self.entries));
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("len", &self.entries.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::*;

    /// Does something with each message, and keeps what is left of it.
    struct Doing(fn(&mut Batch, usize), Mutex<Vec<Message>>);

    #[async_trait]
    impl Publisher for Doing {
        fn send(&self, mut batch: Batch) {
            for index in 0..batch.len() {
                (self.0)(&mut batch, index);
                self.1.lock().push(Message::clone(batch.message(index)));
                batch.complete(index, Outcome::Confirmed(Receipt::new(0, None)));
            }
        }

        fn depth(&self) -> usize {
            1
        }

        async fn close(&self, _: Duration) -> Result<(), Error> {
            Ok(())
        }
    }

    fn message() -> Message {
        let mut message = Message::new("t", "payload").with_key("k").with_header("h", "1");
        message.attributes = Headers::new().with("subject", "7");
        message
    }

    /// What is left of a message that nobody else has, and of one that the caller keeps.
    async fn left_by(act: fn(&mut Batch, usize)) -> [Message; 2] {
        let publisher = Arc::new(Doing(act, Mutex::default()));
        let front = Front::new(publisher.clone(), Duration::from_secs(1), 1 << 20);
        let shared = Arc::new(message());
        let outcomes = front.publish_all(vec![Arc::new(message()), shared.clone()], false).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Confirmed(_))), "{outcomes:?}");
        assert_eq!(*shared, message());
        std::mem::take(&mut *publisher.1.lock()).try_into().unwrap()
    }

    #[tokio::test]
    async fn a_released_message_keeps_topic_and_key_and_one_that_others_have_keeps_all() {
        assert_eq!(left_by(Batch::release).await, [Message::new("t", "").with_key("k"), message()]);
    }

    #[tokio::test]
    async fn a_payload_is_taken_out_of_a_message_unless_others_have_it() {
        let taken = left_by(|batch, index| assert_eq!(batch.take_payload(index), "payload")).await;
        let mut without = message();
        without.payload = Bytes::new();
        assert_eq!(taken, [without, message()]);
    }
}
