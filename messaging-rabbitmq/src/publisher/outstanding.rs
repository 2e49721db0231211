//! [`Outstanding`]: the batches that are with the publisher's task, which of their messages were sent, and how each ended.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use lapin::message::BasicReturnMessage;
use messaging::{Batch, Error, ErrorKind, Message, Outcome, Receipt};

use crate::wire::Writer;

/// Names one message of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) batch: u64,
    pub(crate) index: usize,
}

/// All batches, in the order in which they were handed over.
#[derive(Default)]
pub(crate) struct Outstanding {
    batches: VecDeque<Option<Sent>>,
    /// The number of the first of them.
    first: u64,
    /// The batch from which the next message is sent.
    sending: u64,
    /// Messages that were sent and have no answer.
    unconfirmed: usize,
    /// Emptied buffers of batches that have ended, to be filled next.
    spare: Vec<Vec<State>>,
}

/// One batch, from its hand-over to its last answer.
struct Sent {
    batch: Batch,
    messages: Vec<State>,
    unanswered: usize,
    /// The first message that was not sent.
    next: usize,
    handed_over: Instant,
    /// Messages that ended without a confirm: later ones of their keys are held back.
    failed: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Sent {
        partition: u32,
    },
    /// Came back; its confirm is still to come, and says nothing.
    Returned {
        partition: u32,
    },
    Answered,
}

impl Outstanding {
    pub(crate) fn add(&mut self, batch: Batch) {
        let mut messages = self.spare.pop().unwrap_or_default();
        messages.resize(batch.len(), State::Waiting);
        let unanswered = batch.len();
        let sent = Sent { batch, messages, unanswered, next: 0, handed_over: Instant::now(), failed: Vec::new() };
        self.batches.push_back(Some(sent));
    }

    /// How many messages were sent and have no answer.
    pub(crate) fn unconfirmed(&self) -> usize {
        self.unconfirmed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The next message to be sent: batches are sent one after the other.
    pub(crate) fn next(&mut self) -> Option<Place> {
        self.sending = self.sending.max(self.first);
        loop {
            let index = self.index(self.sending)?;
            match self.batches.get(index)? {
                Some(sent) if sent.next < sent.messages.len() => {
                    return Some(Place { batch: self.sending, index: sent.next });
                }
                _ => self.sending += 1,
            }
        }
    }

    /// A message that has no answer.
    pub(crate) fn message(&self, place: Place) -> Option<&Arc<Message>> {
        self.get(place.batch).map(|sent| sent.batch.message(place.index))
    }

    /// Whether an earlier message of this one's key and batch ended without a confirm.
    pub(crate) fn follows_failed(&self, place: Place) -> bool {
        let Some(sent) = self.get(place.batch).filter(|sent| !sent.failed.is_empty()) else { return false };
        let message = sent.batch.message(place.index);
        message.key.is_some()
            && sent.failed.iter().any(|earlier| {
                let earlier = sent.batch.message(*earlier);
                earlier.key == message.key && earlier.topic == message.topic
            })
    }

    /// This message is given to the client. Answers its payload, which is taken out of it if something else tells it from
    /// others when it comes back: an event is known by its id.
    pub(crate) fn sent(&mut self, place: Place, partition: u32) -> Option<Bytes> {
        let sent = self.get_mut(place.batch)?;
        sent.messages[place.index] = State::Sent { partition };
        sent.next = place.index + 1;
        let message = sent.batch.message(place.index);
        let payload = match message.envelope {
            Some(_) => sent.batch.take_payload(place.index),
            None => message.payload.clone(),
        };
        self.unconfirmed += 1;
        Some(payload)
    }

    /// Answers a message that was sent or is the next to be; one that has its answer keeps it. A batch that has all of
    /// its answers comes back, to be dropped.
    pub(crate) fn answer(&mut self, place: Place, outcome: Outcome) -> Option<Batch> {
        let index = self.index(place.batch)?;
        let sent = self.batches.get_mut(index)?.as_mut()?;
        match std::mem::replace(&mut sent.messages[place.index], State::Answered) {
            State::Answered => return None,
            State::Waiting => sent.next = sent.next.max(place.index + 1),
            State::Sent { .. } | State::Returned { .. } => self.unconfirmed -= 1,
        }
        if !matches!(outcome, Outcome::Confirmed(_)) {
            sent.failed.push(place.index);
        }
        sent.batch.complete(place.index, outcome);
        sent.unanswered -= 1;
        if sent.unanswered > 0 {
            return None;
        }
        let Sent { batch, mut messages, .. } = self.remove(place.batch)?;
        messages.clear();
        self.spare.push(messages);
        Some(batch)
    }

    /// The broker has confirmed a message; it may have returned it before.
    pub(crate) fn confirmed(&mut self, place: Place) -> Option<Batch> {
        let outcome = match self.state(place)? {
            State::Sent { partition } => Outcome::Confirmed(Receipt::new(partition, None)),
            State::Returned { .. } => {
                let topic = &self.get(place.batch)?.batch.message(place.index).topic;
                Outcome::Rejected(unroutable(topic))
            }
            State::Waiting | State::Answered => return None,
        };
        self.answer(place, outcome)
    }

    /// The broker has returned a message: finds out which, beginning with the one whose confirm brought it.
    ///
    /// The client hands a return over with the next confirm that comes, which may be another message's. Which one it
    /// is shows in what it is; of messages that are the same in everything it does not matter. Answers whether it was
    /// found.
    pub(crate) fn returned(&mut self, brought_by: Place, back: &BasicReturnMessage, writer: &mut Writer) -> bool {
        let mut is_it = |sent: &Sent, index: usize| matches!(sent.messages[index], State::Sent { partition } if same(sent.batch.message(index), partition, back, writer));
        let near = self.get(brought_by.batch).filter(|sent| is_it(sent, brought_by.index)).map(|_| brought_by);
        let mut all = || {
            self.all().find_map(|(batch, sent)| {
                (0..sent.next).find(|index| is_it(sent, *index)).map(|index| Place { batch, index })
            })
        };
        let Some(place) = near.or_else(&mut all) else { return false };
        if let Some(sent) = self.get_mut(place.batch)
            && let State::Sent { partition } = sent.messages[place.index]
        {
            sent.messages[place.index] = State::Returned { partition };
        }
        true
    }

    /// Everything that was sent and has no answer becomes unknown; returned messages are known to be nowhere.
    pub(crate) fn lose_sent(&mut self, reason: &Error) -> Vec<Batch> {
        let places: Vec<Place> = self.all().flat_map(|(batch, sent)| sent.open(batch)).collect();
        places
            .into_iter()
            .filter_map(|place| match self.state(place)? {
                State::Returned { .. } => self.confirmed(place),
                _ => self.answer(place, Outcome::Unknown(unknown(reason))),
            })
            .collect()
    }

    /// Gives up batches that are older than this: what was sent is unknown, what was not is surely nowhere.
    pub(crate) fn expire(&mut self, waiting: Duration, sent: Duration, why: impl Fn() -> Error) -> Vec<Batch> {
        let now = Instant::now();
        let mut places = Vec::new();
        for (batch, entry) in self.all() {
            let age = now.saturating_duration_since(entry.handed_over);
            if age >= waiting {
                places.extend((entry.next..entry.messages.len()).map(|index| (Place { batch, index }, false)));
            }
            if age >= sent {
                places.extend(entry.open(batch).map(|place| (place, true)));
            }
        }
        let end = |(place, was_sent)| {
            let outcome = if was_sent {
                Outcome::unknown("the broker did not confirm within the publish deadline")
            } else {
                Outcome::Rejected(why())
            };
            self.answer(place, outcome)
        };
        places.into_iter().filter_map(end).collect()
    }

    /// When the oldest batch was handed over.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.batches.front()?.as_ref().map(|sent| sent.handed_over)
    }

    fn index(&self, batch: u64) -> Option<usize> {
        usize::try_from(batch.checked_sub(self.first)?).ok()
    }

    fn get(&self, batch: u64) -> Option<&Sent> {
        self.batches.get(self.index(batch)?)?.as_ref()
    }

    fn get_mut(&mut self, batch: u64) -> Option<&mut Sent> {
        let index = self.index(batch)?;
        self.batches.get_mut(index)?.as_mut()
    }

    /// The first that is there is always in front.
    fn remove(&mut self, batch: u64) -> Option<Sent> {
        let index = self.index(batch)?;
        let sent = self.batches.get_mut(index)?.take();
        while let Some(None) = self.batches.front() {
            self.batches.pop_front();
            self.first += 1;
        }
        sent
    }

    fn all(&self) -> impl Iterator<Item = (u64, &Sent)> {
        (self.first..).zip(&self.batches).filter_map(|(batch, sent)| Some((batch, sent.as_ref()?)))
    }

    fn state(&self, place: Place) -> Option<State> {
        self.get(place.batch).map(|sent| sent.messages[place.index])
    }
}

impl Sent {
    /// The messages that were sent and have no answer.
    fn open(&self, batch: u64) -> impl Iterator<Item = Place> {
        let open = |index: &usize| matches!(self.messages[*index], State::Sent { .. } | State::Returned { .. });
        (0..self.next).filter(open).map(move |index| Place { batch, index })
    }
}

/// Whether what came back is this message.
fn same(message: &Message, partition: u32, back: &BasicReturnMessage, writer: &mut Writer) -> bool {
    back.exchange.as_str() == message.topic.as_str()
        && back.routing_key.as_str().parse() == Ok(partition)
        && (message.envelope.is_some() || back.data == message.payload)
        && writer.properties(message).is_ok_and(|properties| properties == back.properties)
}

/// Nobody has subscribed, so that nobody has the message. That may change, hence the kind of the error.
fn unroutable(topic: &str) -> Error {
    let message = format!(
        "no group has subscribed to topic {topic:?}: the broker keeps messages only for groups that it knows, and \
         returned this one"
    );
    Error::new(ErrorKind::Unavailable, message)
}

fn unknown(reason: &Error) -> Error {
    Error::new(ErrorKind::Unknown, format!("the broker's answer did not come: {}", reason.duplicate()))
}
