//! [`Preparer`]: chooses the partition of each message of a batch and encodes it, ahead of its turn.

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc, time::Duration};

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
const MAX_PART_BYTES: usize = 4 << 20;
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
    /// The transactions, which of the messages each has, counted from 0 in the batch.
    pub(super) parts: VecDeque<Vec<usize>>,
    /// The commands of the first one.
    first: Option<Pipeline>,
}

/// Batches as they are made ready, one after the other.
pub(super) struct Line {
    preparing: Option<Preparing>,
}

type Preparing = Pin<Box<dyn Future<Output = Option<(Preparer, Prepared)>> + Send>>;

impl Line {
    pub(super) fn new(preparer: Preparer) -> Self {
        Self { preparing: Some(Box::pin(preparer.next())) }
    }

    /// The next batch; `None` once the publisher is closed. Nothing is lost if this is dropped.
    pub(super) async fn next(&mut self) -> Option<Prepared> {
        let (preparer, prepared) = self.preparing.as_mut()?.await.unzip();
        self.preparing = preparer.map(|preparer| Box::pin(preparer.next()) as Preparing);
        prepared
    }
}

impl Preparer {
    pub(super) fn new(topics: Arc<Topics>, trimmer: Arc<Trimmer>, due: mpsc::UnboundedReceiver<Due>) -> Self {
        Self { topics, trimmer, due, turn: fastrand::u32(..) }
    }

    /// The next batch; `None` once the publisher is closed. Messages whose topic cannot be had are answered.
    async fn next(mut self) -> Option<(Self, Prepared)> {
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
        let parts = parts(&batch, sendable);
        let mut prepared = Prepared { batch, deadline, topics, topic_of, partitions, parts, first: None };
        prepared.first = prepared.parts.front().map(|first| prepared.commands(first));
        Some((self, prepared))
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

/// These messages in so few transactions as their size allows.
fn parts(batch: &Batch, indices: Vec<usize>) -> VecDeque<Vec<usize>> {
    let (mut bytes, mut begins) = (0, Vec::new());
    for (place, &index) in indices.iter().enumerate() {
        let weight = batch.message(index).weight();
        bytes += weight;
        if bytes > MAX_PART_BYTES && place > 0 {
            begins.push(place);
            bytes = weight;
        }
    }
    let mut parts = VecDeque::with_capacity(begins.len() + 1);
    let mut rest = indices;
    for begin in begins.into_iter().rev() {
        parts.push_front(rest.split_off(begin));
    }
    if !rest.is_empty() {
        parts.push_front(rest);
    }
    parts
}

impl Prepared {
    /// What the server is to queue for these messages.
    pub(super) fn commands(&self, part: &[usize]) -> Pipeline {
        let mut commands = Pipeline::with_capacity(part.len() + 1);
        commands.cmd("MULTI");
        for &index in part {
            commands.add_command(self.command(index, self.batch.message(index)));
        }
        commands
    }

    /// The commands of the first transaction, made ready ahead.
    pub(super) fn commands_of_first(&mut self) -> Pipeline {
        let first = self.first.take();
        first.or_else(|| Some(self.commands(self.parts.front()?))).unwrap_or_default()
    }

    /// The parts of a transaction by topic.
    pub(super) fn by_topic(&self, part: &[usize]) -> Vec<Vec<usize>> {
        let mut topics: Vec<(&Name, Vec<usize>)> = Vec::new();
        for &index in part {
            let topic = &self.batch.message(index).topic;
            match topics.iter_mut().find(|(known, _)| *known == topic) {
                Some((_, of_topic)) => of_topic.push(index),
                None => topics.push((topic, vec![index])),
            }
        }
        topics.into_iter().map(|(_, of_topic)| of_topic).collect()
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
