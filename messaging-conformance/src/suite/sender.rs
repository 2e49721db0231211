//! [`Sender`]: publishes messages with scripts, and records each attempt and outcome.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use messaging::{Message, Messaging, Outcome, Receipt};
use parking_lot::Mutex;

use super::World;
use crate::{
    failure::{Checked, Failure, require},
    history::{Log, What, payload_hash},
    script::{Fail, How, ID, Script, key_text},
};

/// A message that is to be published, with what its handler is to do.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) id: u64,
    pub(crate) message: Message,
    script: Script,
}

impl World {
    /// A message for a topic, with a payload of its own.
    pub(crate) fn letter(&self, topic: &str) -> Letter {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let payload = self.random(|random| {
            let length = random.usize(8..100);
            (0..length).map(|_| random.u8(..)).collect::<Vec<u8>>()
        });
        Letter { id, message: Message::new(topic, payload), script: Script::default() }
    }

    /// So many messages over so many keys, in turn.
    pub(crate) fn letters(&self, topic: &str, count: usize, keys: usize) -> Vec<Letter> {
        (0..count).map(|index| self.letter(topic).key(format!("key-{}", index % keys))).collect()
    }
}

impl Letter {
    pub(crate) fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.message.key = Some(key.into());
        self
    }

    pub(crate) fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.message.payload = payload.into();
        self
    }

    pub(crate) fn work(mut self, time: Duration) -> Self {
        self.script.work = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self
    }

    pub(crate) fn gate(mut self, gate: &str) -> Self {
        self.script.gate = Some(gate.to_owned());
        self
    }

    /// Every run fails.
    pub(crate) fn fails(mut self, how: How) -> Self {
        self.script.fail = Some(Fail { how, first: None });
        self
    }

    /// The first runs of each member fail.
    pub(crate) fn fails_first(mut self, how: How, runs: u32) -> Self {
        self.script.fail = Some(Fail { how, first: Some(runs) });
        self
    }

    /// The message as it is published.
    pub(crate) fn sealed(&self) -> Message {
        self.script.write(self.message.clone().with_header(ID, self.id.to_string()))
    }
}

/// A message that was published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) id: u64,
    pub(crate) receipt: Receipt,
}

/// One publisher, with a connection of its own unless it was given one.
pub(crate) struct Sender {
    who: Arc<str>,
    log: Arc<Log>,
    pub(crate) messaging: Messaging,
    sequences: Mutex<HashMap<(String, Option<Bytes>), u64>>,
}

impl Sender {
    pub(super) fn new(who: Arc<str>, log: Arc<Log>, messaging: Messaging) -> Self {
        Self { who, log, messaging, sequences: Mutex::default() }
    }

    /// Publishes one message.
    pub(crate) async fn try_publish(&self, letter: &Letter) -> Outcome {
        self.attempt(letter);
        let outcome = match self.messaging.publish_raw(letter.sealed()).await {
            Ok(receipt) => Outcome::Confirmed(receipt),
            Err(error) if error.kind() == messaging::ErrorKind::Unknown => Outcome::Unknown(error),
            Err(error) => Outcome::Rejected(error),
        };
        self.note(letter.id, &outcome);
        outcome
    }

    /// Publishes one message, which must be confirmed.
    pub(crate) async fn publish(&self, letter: &Letter) -> Checked<Sent> {
        let receipt = self.try_publish(letter).await.confirmed()?;
        Ok(Sent { id: letter.id, receipt })
    }

    /// Publishes messages together.
    pub(crate) async fn try_publish_all(&self, letters: &[Letter]) -> Vec<Outcome> {
        let messages = letters.iter().map(|letter| {
            self.attempt(letter);
            Arc::new(letter.sealed())
        });
        let outcomes = self.messaging.publish_messages(messages.collect()).await;
        for (letter, outcome) in letters.iter().zip(&outcomes) {
            self.note(letter.id, outcome);
        }
        outcomes
    }

    /// Publishes messages together, which must all be confirmed.
    pub(crate) async fn publish_all(&self, letters: &[Letter]) -> Checked<Vec<Sent>> {
        let outcomes = self.try_publish_all(letters).await;
        require!(outcomes.len() == letters.len(), "{} outcomes of {} messages", outcomes.len(), letters.len());
        let sent = letters.iter().zip(outcomes).map(|(letter, outcome)| {
            let receipt = outcome.confirmed().map_err(Failure::from)?;
            Ok(Sent { id: letter.id, receipt })
        });
        sent.collect()
    }

    pub(crate) async fn close(self) -> Checked {
        Ok(self.messaging.close(Duration::from_secs(10)).await?)
    }

    fn attempt(&self, letter: &Letter) {
        let message = &letter.message;
        let sequence = {
            let mut sequences = self.sequences.lock();
            let next = sequences.entry((message.topic.to_string(), message.key.clone())).or_default();
            *next += 1;
            *next
        };
        let attempted = What::Attempted {
            id: letter.id,
            topic: message.topic.as_str().into(),
            key: key_text(message),
            seq: sequence,
            hash: payload_hash(&message.payload),
        };
        self.log.record(&self.who, attempted);
    }

    fn note(&self, id: u64, outcome: &Outcome) {
        let what = match outcome {
            Outcome::Confirmed(receipt) => {
                What::Confirmed { id, partition: receipt.partition, position: receipt.position }
            }
            Outcome::Rejected(error) => What::Rejected { id, reason: error.to_string() },
            Outcome::Unknown(error) => What::Unknown { id, reason: error.to_string() },
            _ => return,
        };
        self.log.record(&self.who, what);
    }
}
