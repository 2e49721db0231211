//! [`Sender`]: sends prepared batches and reads what became of each message.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hashbrown::HashSet;
use messaging::{Error, ErrorKind, Name, Outcome, Receipt};
use redis::{Cmd, RedisError, RedisResult, ServerError, Value, aio::MultiplexedConnection};
use tokio::time::Instant;

use super::prepare::{Chunk, Prepared};
use crate::{
    entry,
    link::{Backoff, Connector, is_broken},
};

/// Pauses before a batch that the server refused for the moment is sent again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Sender {
    connector: Arc<Connector>,
    conn: Option<MultiplexedConnection>,
    /// It has ended: what would be sent over it would surely not be stored, and yet be answered like what might be.
    ended: Arc<AtomicBool>,
    backoff: Backoff,
    deadline: Duration,
}

/// How a transaction ended.
enum Sent {
    /// Executed: an answer for each message.
    Answers(Vec<Value>),
    /// Surely not stored; the server may take it in a moment.
    Later(Error),
    /// Surely not stored, nor will it be. By whose fault is not known if there are several topics in it.
    Refused(Error),
    /// May be stored.
    Unknown(Error),
}

impl Sender {
    pub(super) async fn open(connector: Arc<Connector>, deadline: Duration) -> Result<Self, Error> {
        let (link, ended) = connector.connect_watched(deadline).await?;
        Ok(Self { connector, conn: Some(link.conn), ended, backoff: Backoff::default(), deadline })
    }

    /// Sends a batch and answers each of its messages.
    pub(super) async fn send(&mut self, mut prepared: Prepared) {
        let mut failed = Failed::default();
        let mut chunks = std::mem::take(&mut prepared.chunks).into_iter();
        while let Some(mut chunk) = chunks.next() {
            if failed.holds_any(&prepared, &chunk) {
                let (held, sendable): (Vec<usize>, Vec<usize>) =
                    chunk.indices.iter().partition(|index| failed.holds(&prepared, **index));
                for index in held {
                    prepared.batch.complete(index, not_sent());
                }
                let Some(rest) = prepared.chunks_of(&sendable).into_iter().next() else { continue };
                chunk = rest;
            }
            match self.send_until(&chunk, prepared.deadline).await {
                Sent::Answers(answers) => self.complete(&mut prepared, &chunk, answers, &mut failed).await,
                Sent::Refused(error) => {
                    let parts = prepared.by_topic(&chunk);
                    if parts.len() > 1 {
                        // Nothing was stored; one topic at a time tells which it was.
                        chunks = parts.into_iter().chain(chunks).collect::<Vec<_>>().into_iter();
                    } else {
                        failed.refuse(&mut prepared, &chunk, || Outcome::Rejected(error.duplicate()));
                    }
                }
                Sent::Later(error) => failed.refuse(&mut prepared, &chunk, || Outcome::Rejected(error.duplicate())),
                Sent::Unknown(error) => failed.refuse(&mut prepared, &chunk, || Outcome::Unknown(error.duplicate())),
            }
        }
    }

    /// Sends a transaction, again and again while the server refuses it for the moment.
    async fn send_until(&mut self, chunk: &Chunk, deadline: Instant) -> Sent {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let sent = match self.connection(deadline).await {
                Ok(conn) => self.send_once(conn, chunk, deadline).await,
                Err(error) => return Sent::Later(error),
            };
            match sent {
                Sent::Later(error) if Instant::now() + pause < deadline => {
                    tracing::debug!(%error, "the server refuses messages for the moment");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                sent => return sent,
            }
        }
    }

    async fn send_once(&mut self, mut conn: MultiplexedConnection, chunk: &Chunk, deadline: Instant) -> Sent {
        conn.set_response_timeout(deadline.saturating_duration_since(Instant::now()));
        // Each command is answered with QUEUED, and EXEC with all answers.
        let skipped = chunk.pipe.len() + 1;
        match conn.send_packed_commands(&chunk.pipe, skipped, 1).await {
            Ok(mut answers) => match answers.pop() {
                Some(Value::Array(answers)) if answers.len() == chunk.indices.len() => Sent::Answers(answers),
                Some(Value::ServerError(error)) => refusal(error.into()),
                other => {
                    self.conn = None;
                    let what = format!("the answer to a transaction is not understood: {other:?}");
                    Sent::Unknown(Error::new(ErrorKind::Unknown, what))
                }
            },
            Err(error) => {
                if is_broken(&error) || is_elsewhere(&error) {
                    self.conn = None;
                }
                refusal(error)
            }
        }
    }

    /// The connection, opened anew if it was lost.
    async fn connection(&mut self, deadline: Instant) -> Result<MultiplexedConnection, Error> {
        loop {
            if let Some(conn) = self.conn.take_if(|_| !self.ended.load(Ordering::Acquire)) {
                self.conn = Some(conn.clone());
                return Ok(conn);
            }
            let connecting = self.connector.connect_watched(self.deadline);
            let error = match tokio::time::timeout_at(deadline, connecting).await {
                Ok(Ok((link, ended))) => {
                    self.backoff.reset();
                    self.conn = Some(link.conn);
                    self.ended = ended;
                    continue;
                }
                Ok(Err(error)) => error,
                Err(_) => Error::new(ErrorKind::Timeout, "not sent: the publish deadline passed while connecting"),
            };
            let pause = self.backoff.next();
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Answers the messages of a transaction that was executed.
    async fn complete(&mut self, prepared: &mut Prepared, chunk: &Chunk, answers: Vec<Value>, failed: &mut Failed) {
        if let Err(error) = self.replicated(prepared.deadline).await {
            failed.refuse(prepared, chunk, || Outcome::Unknown(error.duplicate()));
            return;
        }
        for (&index, answer) in chunk.indices.iter().zip(answers) {
            let outcome = match answer {
                Value::ServerError(error) => {
                    failed.note(prepared, index);
                    Outcome::Rejected(rejection(&error))
                }
                answer => match entry::position(&answer) {
                    Some(position) => Outcome::Confirmed(Receipt::new(prepared.partitions[index], Some(position))),
                    None => Outcome::unknown("the server's answer to XADD is not understood"),
                },
            };
            prepared.batch.complete(index, outcome);
        }
    }

    /// Waits until as many replicas as configured have what was sent.
    async fn replicated(&mut self, deadline: Instant) -> Result<(), Error> {
        let wanted = self.connector.config.wait;
        let Some(mut conn) = self.conn.clone().filter(|_| wanted > 0) else { return Ok(()) };
        let left = deadline.saturating_duration_since(Instant::now());
        conn.set_response_timeout(left);
        let millis = (left.as_millis() as u64).saturating_sub(100).max(1);
        let waited: RedisResult<u32> = Cmd::new().arg("WAIT").arg(wanted).arg(millis).query_async(&mut conn).await;
        match waited {
            Ok(replicas) if replicas >= wanted => Ok(()),
            Ok(replicas) => Err(Error::new(
                ErrorKind::Unknown,
                format!("{replicas} replicas confirmed within the publish deadline, {wanted} were asked for (`wait`)"),
            )),
            Err(error) => {
                self.conn = None;
                Err(Error::new(ErrorKind::Unknown, format!("waiting for replicas failed: {error}")))
            }
        }
    }
}

impl Prepared {
    /// The parts of a transaction by topic.
    fn by_topic(&self, chunk: &Chunk) -> Vec<Chunk> {
        let mut topics: Vec<&Name> = Vec::new();
        for index in &chunk.indices {
            let topic = &self.batch.message(*index).topic;
            if !topics.contains(&topic) {
                topics.push(topic);
            }
        }
        let of = |topic: &Name| -> Vec<usize> {
            chunk.indices.iter().copied().filter(|index| self.batch.message(*index).topic == *topic).collect()
        };
        topics.into_iter().flat_map(|topic| self.chunks_of(&of(topic))).collect()
    }
}

/// Keys of messages that were not confirmed: later ones of the batch are not sent.
#[derive(Default)]
struct Failed {
    keys: HashSet<(Name, Bytes)>,
}

impl Failed {
    fn note(&mut self, prepared: &Prepared, index: usize) {
        let message = prepared.batch.message(index);
        if let Some(key) = &message.key {
            self.keys.insert((message.topic.clone(), key.clone()));
        }
    }

    fn refuse(&mut self, prepared: &mut Prepared, chunk: &Chunk, outcome: impl Fn() -> Outcome) {
        for &index in &chunk.indices {
            self.note(prepared, index);
            prepared.batch.complete(index, outcome());
        }
    }

    fn holds(&self, prepared: &Prepared, index: usize) -> bool {
        let message = prepared.batch.message(index);
        message.key.as_ref().is_some_and(|key| self.keys.contains(&(message.topic.clone(), key.clone())))
    }

    fn holds_any(&self, prepared: &Prepared, chunk: &Chunk) -> bool {
        !self.keys.is_empty() && chunk.indices.iter().any(|index| self.holds(prepared, *index))
    }
}

fn not_sent() -> Outcome {
    Outcome::rejected("not sent: an earlier message of the same key in the batch was not confirmed")
}

/// What a transaction's error says about its messages.
fn refusal(error: RedisError) -> Sent {
    let text = error.to_string();
    let Some(errors) = error.into_server_errors() else {
        return Sent::Unknown(Error::new(ErrorKind::Unknown, format!("no answer to what was sent: {text}")));
    };
    let first = errors.iter().map(|(_, error)| error).find(|error| error.code() != "EXECABORT");
    match first {
        Some(error) if is_momentary(error.code()) => Sent::Later(rejection(error)),
        Some(error) => Sent::Refused(rejection(error)),
        None => Sent::Refused(Error::new(ErrorKind::Rejected, text)),
    }
}

/// Whether a transaction was refused because the server is not, or not yet, the one to write to.
fn is_elsewhere(error: &RedisError) -> bool {
    let errors = error.clone().into_server_errors();
    errors.is_some_and(|errors| {
        errors.iter().any(|(_, error)| ["READONLY", "LOADING", "MASTERDOWN"].contains(&error.code()))
    })
}

/// Errors of the server's state rather than of the message.
fn is_momentary(code: &str) -> bool {
    ["OOM", "LOADING", "READONLY", "MASTERDOWN", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS", "MISCONF"]
        .contains(&code)
}

fn rejection(error: &ServerError) -> Error {
    let kind = if is_momentary(error.code()) { ErrorKind::Unavailable } else { ErrorKind::Rejected };
    let details = error.details().unwrap_or_default();
    Error::new(kind, format!("refused by the server: {} {details}", error.code()))
}
