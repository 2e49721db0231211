//! [`Preparer`]: chooses the partition of each message of a batch and encodes it, ahead of its turn.

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;
use messaging::{Batch, Error, Message, Name, Outcome, partition_for_key};
use redis::{Cmd, Pipeline};
use tokio::{sync::mpsc, time::Instant};

use super::Due;
use crate::{
    entry,
    topics::{Topic, Topics},
    trim::Trimmer,
};

/// The server holds a transaction in memory until it is whole: at most so many bytes.
const MAX_CHUNK_BYTES: usize = 4 << 20;
/// How long to wait before a topic is asked for again that could not be asked for.
const AGAIN: Duration = Duration::from_millis(100);

pub(super) struct Preparer {
    topics: Arc<Topics>,
    trimmer: Arc<Trimmer>,
    due: mpsc::UnboundedReceiver<Due>,
    /// Where the next message without a key goes.
    turn: u32,
}

/// A batch, ready to be sent.
pub(super) struct Prepared {
    pub(super) batch: Batch,
    pub(super) deadline: Instant,
    topics: Vec<Arc<Topic>>,
    /// Which of the topics each message is for; of those that cannot be sent, anything.
    topic_of: Vec<u32>,
    /// The partition of each message; of those that cannot be sent, anything.
    pub(super) partitions: Vec<u32>,
    pub(super) chunks: Vec<Chunk>,
}

/// Part of a batch: one transaction.
#[derive(Default)]
pub(super) struct Chunk {
    /// The messages, counted from 0 in the batch.
    pub(super) indices: Vec<usize>,
    pub(super) pipe: Pipeline,
}

impl Preparer {
    pub(super) fn new(topics: Arc<Topics>, trimmer: Arc<Trimmer>, due: mpsc::UnboundedReceiver<Due>) -> Self {
        Self { topics, trimmer, due, turn: fastrand::u32(..) }
    }

    /// The next batch; `None` once the publisher is closed. Messages whose topic cannot be had are answered.
    pub(super) async fn next(&mut self) -> Option<Prepared> {
        let Due { mut batch, deadline } = self.due.recv().await?;
        let mut topics: Vec<Arc<Topic>> = Vec::new();
        let mut known: HashMap<Name, u32> = HashMap::new();
        // Most follow one for the same topic.
        let mut which = 0;
        let mut topic_of = vec![0; batch.len()];
        let mut sendable = Vec::with_capacity(batch.len());
        let mut partitions = vec![0; batch.len()];
        for (index, partition) in partitions.iter_mut().enumerate() {
            let message = batch.message(index);
            if topics.get(which as usize).is_none_or(|topic| topic.name != message.topic) {
                let name = message.topic.clone();
                which = match known.get(&name) {
                    Some(which) => *which,
                    None => match self.topic(&name, deadline).await {
                        Ok(topic) => {
                            topics.push(topic);
                            *known.entry(name).insert(topics.len() as u32 - 1).into_mut()
                        }
                        Err(error) => {
                            batch.complete(index, Outcome::Rejected(error));
                            continue;
                        }
                    },
                };
            }
            let (topic, message) = (&topics[which as usize], batch.message(index));
            topic_of[index] = which;
            *partition = match &message.key {
                Some(key) => partition_for_key(key, topic.partitions()),
                None => {
                    self.turn = self.turn.wrapping_add(1);
                    self.turn % topic.partitions()
                }
            };
            sendable.push(index);
        }
        let mut prepared = Prepared { batch, deadline, topics, topic_of, partitions, chunks: Vec::new() };
        prepared.chunks = prepared.chunks_of(&sendable);
        Some(prepared)
    }

    /// The topic; asked for until the deadline while the server is away.
    async fn topic(&self, name: &Name, deadline: Instant) -> Result<Arc<Topic>, Error> {
        loop {
            let asked = tokio::time::timeout_at(deadline, self.topics.get(name)).await;
            match asked {
                Ok(Err(error)) if error.is_transient() && Instant::now() + AGAIN < deadline => {
                    tokio::time::sleep(AGAIN).await;
                }
                Ok(Ok(topic)) => {
                    self.trimmer.watch(&topic);
                    return Ok(topic);
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    let text = format!("topic {:?} could not be asked for within the publish deadline", name.as_str());
                    return Err(Error::new(messaging::ErrorKind::Timeout, text));
                }
            }
        }
    }
}

impl Prepared {
    /// Encodes these messages, in so few transactions as their size allows.
    pub(super) fn chunks_of(&self, indices: &[usize]) -> Vec<Chunk> {
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut bytes = usize::MAX;
        for &index in indices {
            let message = self.batch.message(index);
            let cmd = self.command(index, message);
            bytes = bytes.saturating_add(message.weight());
            if bytes > MAX_CHUNK_BYTES {
                chunks.push(Chunk {
                    indices: Vec::with_capacity(indices.len()),
                    pipe: Pipeline::with_capacity(indices.len()),
                });
                bytes = message.weight();
            }
            if let Some(chunk) = chunks.last_mut() {
                chunk.pipe.atomic().add_command(cmd);
                chunk.indices.push(index);
            }
        }
        chunks
    }

    fn command(&self, index: usize, message: &Message) -> Cmd {
        let topic = &self.topics[self.topic_of[index] as usize];
        let (bytes, arguments) = entry::estimate(message);
        let mut cmd = Cmd::with_capacity(arguments, bytes);
        cmd.arg("XADD").arg(&*topic.streams[self.partitions[index] as usize]).arg("*");
        entry::write_fields(message, &mut cmd);
        cmd
    }
}
