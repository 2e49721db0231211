//! [`Front`]: what every caller's publish goes through, whatever the backend: group commit, back-pressure, deadline.
//!
//! Callers queue messages; whoever finds a batch due hands it to the backend. While as many batches are out as the
//! backend wants, messages gather into the next one. A lone message is sent at once and waits for its own answer only,
//! never for a timer.

mod encode;
mod tickets;

pub use encode::Encoder;
use tickets::{Answers, Tickets};

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    error::{Error, ErrorKind},
    message::Message,
    publisher::{Batch, BatchEntry, Outcome, Publisher, Receipt},
};

/// One permit stands for this many bytes of what is queued or out; each message takes one more.
const PERMIT_BYTES: usize = 1024;
/// What a dead letter may add to its message.
const LETTER_BYTES: usize = 8 << 10;
/// 64 MiB, or 65,536 small messages.
const PERMITS: usize = 65_536;

pub(crate) struct Front {
    publisher: Arc<dyn Publisher>,
    deadline: Duration,
    max_message_bytes: usize,
    permits: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queued: VecDeque<BatchEntry>,
    /// An emptied buffer of the last batch, to be filled next.
    spare: Vec<BatchEntry>,
    tickets: Tickets,
    batches_out: usize,
    /// Somebody is handing batches to the backend; batches leave in order because nobody else does meanwhile.
    handing_over: bool,
    closed: bool,
}

impl Front {
    pub(crate) fn new(publisher: Arc<dyn Publisher>, deadline: Duration, max_message_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            publisher,
            deadline,
            max_message_bytes,
            permits: Semaphore::new(PERMITS),
            state: Mutex::new(State::default()),
        })
    }

    /// Publishes one message that is confirmed at once, and may leave one that is done with in its place; `None` if it
    /// has to be waited for.
    #[inline]
    pub(crate) fn publish_now(&self, message: &mut Arc<Message>) -> Option<Receipt> {
        if message.weight() > self.max_message_bytes { None } else { self.publisher.send_now(message) }
    }

    /// Publishes one message.
    ///
    /// Dropping the future after its first poll does not recall the message.
    pub(crate) async fn publish(self: &Arc<Self>, message: Arc<Message>) -> Outcome {
        match self.check(&message, self.max_message_bytes) {
            Ok(()) => self.send(message).await,
            Err(outcome) => outcome,
        }
    }

    /// Publishes a dead letter: its message was within the limit, which leaves room for what the letter adds.
    pub(crate) async fn publish_letter(self: &Arc<Self>, letter: Arc<Message>) -> Outcome {
        match self.check(&letter, self.max_message_bytes.saturating_add(LETTER_BYTES)) {
            Ok(()) => self.send(letter).await,
            Err(outcome) => outcome,
        }
    }

    async fn send(self: &Arc<Self>, message: Arc<Message>) -> Outcome {
        let Some(permit) = self.admit(message.weight(), 1).await else { return timed_out_in_queue() };
        let ticket = {
            let mut state = self.state.lock();
            if state.closed {
                return closed();
            }
            let ticket = state.tickets.open(Answers::One(None), 1);
            state.queued.push_back(BatchEntry { message, ticket, index: 0, answered: false });
            self.hand_over(state);
            ticket
        };
        let outcome = match self.answer_in_time(ticket).await {
            Some(Answers::One(Some(outcome))) => outcome,
            _ => timed_out(),
        };
        drop(permit);
        outcome
    }

    /// Publishes messages in their order; answers an outcome for each.
    ///
    /// Dropping the future after its first poll does not recall the messages.
    pub(crate) async fn publish_all(
        self: &Arc<Self>,
        messages: Vec<Arc<Message>>,
        until_settled: bool,
    ) -> Vec<Outcome> {
        let count = messages.len();
        if count == 0 {
            return Vec::new();
        }
        let mut weight = 0;
        let mut check = |message: &Arc<Message>| {
            weight += message.weight();
            self.check(message, self.max_message_bytes).err()
        };
        let mut outcomes: Vec<Option<Outcome>> = messages.iter().map(&mut check).collect();
        let Some(permit) = self.admit(weight, count).await else {
            return outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(timed_out_in_queue)).collect();
        };
        let waited_for = outcomes.iter().filter(|outcome| outcome.is_none()).count();
        if waited_for == 0 {
            return outcomes.into_iter().flatten().collect();
        }
        let refused: Vec<bool> = outcomes.iter().map(Option::is_some).collect();
        let ticket = {
            let mut state = self.state.lock();
            if state.closed {
                return outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(closed)).collect();
            }
            let ticket = state.tickets.open(Answers::Many(std::mem::take(&mut outcomes)), waited_for as u32);
            let entries = messages
                .into_iter()
                .enumerate()
                .filter(|(index, _)| !refused[*index])
                .map(|(index, message)| BatchEntry { message, ticket, index: index as u32, answered: false });
            if until_settled {
                // Such a batch may be out for long; it goes beside the others rather than in front of them.
                let entries = entries.collect();
                state.batches_out += 1;
                drop(state);
                self.publisher.send(Batch { front: self.clone(), entries, until_settled });
            } else {
                state.queued.extend(entries);
                self.hand_over(state);
            }
            ticket
        };
        let answers = if until_settled {
            Some(Answer { front: self, ticket: Some(ticket) }.await)
        } else {
            self.answer_in_time(ticket).await
        };
        drop(permit);
        match answers {
            Some(Answers::Many(outcomes)) => {
                outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(timed_out)).collect()
            }
            _ => (0..count).map(|_| timed_out()).collect(),
        }
    }

    /// Refuses further messages, then closes the backend's publisher.
    pub(crate) async fn close(&self, deadline: Duration) -> Result<(), Error> {
        self.state.lock().closed = true;
        self.publisher.close(deadline).await
    }

    /// The backend answers one message.
    pub(crate) fn answer(&self, ticket: u32, index: u32, outcome: Outcome) {
        let waker = self.state.lock().tickets.answer(ticket, index, outcome);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A batch was answered to the end.
    pub(crate) fn batch_ended(self: &Arc<Self>, mut entries: Vec<BatchEntry>) {
        entries.clear();
        let mut state = self.state.lock();
        state.batches_out -= 1;
        if entries.capacity() > state.spare.capacity() {
            state.spare = entries;
        }
        self.hand_over(state);
    }

    /// Hands queued messages to the backend for as long as it wants batches, unless somebody else is doing so.
    fn hand_over<'a>(self: &'a Arc<Self>, mut state: parking_lot::MutexGuard<'a, State>) {
        if state.handing_over {
            return;
        }
        while !state.queued.is_empty() && state.batches_out < self.publisher.depth() {
            let mut entries = std::mem::take(&mut state.spare);
            let count = state.queued.len().min(self.publisher.max_batch());
            entries.extend(state.queued.drain(..count));
            state.batches_out += 1;
            state.handing_over = true;
            drop(state);
            self.publisher.send(Batch { front: self.clone(), entries, until_settled: false });
            state = self.state.lock();
            state.handing_over = false;
        }
    }

    fn check(&self, message: &Message, limit: usize) -> Result<(), Outcome> {
        let weight = message.weight();
        if weight <= limit {
            return Ok(());
        }
        Err(Outcome::rejected(format!(
            "a message for topic {:?} has {weight} bytes of key, payload and headers; the limit is {limit}",
            message.topic
        )))
    }

    /// Waits until there is room for so much more; `None` at the deadline.
    async fn admit(&self, bytes: usize, messages: usize) -> Option<SemaphorePermit<'_>> {
        let wanted = (messages + bytes / PERMIT_BYTES).min(PERMITS) as u32;
        match self.permits.try_acquire_many(wanted) {
            Ok(permit) => Some(permit),
            Err(_) => tokio::time::timeout(self.deadline, self.permits.acquire_many(wanted)).await.ok()?.ok(),
        }
    }

    async fn answer_in_time(&self, ticket: u32) -> Option<Answers> {
        let mut answer = Answer { front: self, ticket: Some(ticket) };
        // Most answers of a bus in the process are there already: no timer for those.
        let first = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut answer).poll(cx))).await;
        match first {
            Poll::Ready(answers) => Some(answers),
            Poll::Pending => tokio::time::timeout(self.deadline, answer).await.ok(),
        }
    }
}

/// Waits for the answers of one call.
struct Answer<'a> {
    front: &'a Front,
    /// `None` once the answers were taken.
    ticket: Option<u32>,
}

impl Future for Answer<'_> {
    type Output = Answers;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answers> {
        let Some(ticket) = self.ticket else { return Poll::Pending };
        match self.front.state.lock().tickets.poll(ticket, cx.waker()) {
            Poll::Ready(answers) => {
                self.ticket = None;
                Poll::Ready(answers)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.front.state.lock().tickets.abandon(ticket);
        }
    }
}

fn closed() -> Outcome {
    Outcome::Rejected(Error::new(ErrorKind::Closed, "the publisher is closed"))
}

fn timed_out() -> Outcome {
    Outcome::unknown("the broker did not confirm within the publish deadline")
}

fn timed_out_in_queue() -> Outcome {
    Outcome::Rejected(Error::new(
        ErrorKind::Timeout,
        "the publish deadline passed while the message waited for earlier ones to be confirmed",
    ))
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
