//! [`Sender`]: sends prepared batches and reads what became of each message.

use std::{
    future::{Future, poll_fn, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use hashbrown::HashSet;
use messaging::{Error, ErrorKind, Name, Outcome, Receipt};
use redis::{Cmd, RedisResult, Value, aio::MultiplexedConnection};
use tokio::time::Instant;

use super::{
    flight::{Landed, Queueing, Sent, begun, execute, queue, rejection},
    prepare::Prepared,
};
use crate::{
    entry,
    link::{Backoff, Connector},
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

/// A batch that is the next to be sent.
pub(super) struct Ahead {
    prepared: Prepared,
    /// The server has its first transaction, but for the `EXEC`.
    queueing: Option<Queueing>,
}

/// A batch whose first transaction is on its way.
pub(super) struct Flying {
    prepared: Prepared,
    landing: Landing,
}

type Landing = Pin<Box<dyn Future<Output = Landed> + Send>>;

impl Flying {
    /// Sends it, without waiting for answers.
    async fn begin(&mut self) {
        let landed = poll_fn(|cx| Poll::Ready(self.landing.as_mut().poll(cx))).await;
        if let Poll::Ready(landed) = landed {
            self.landing = Box::pin(ready(landed));
        }
    }

    /// How its transaction ended; may be asked again if it was not told.
    pub(super) async fn landed(&mut self) -> Landed {
        self.landing.as_mut().await
    }
}

impl From<Prepared> for Ahead {
    fn from(prepared: Prepared) -> Self {
        Self { prepared, queueing: None }
    }
}

impl Sender {
    pub(super) async fn open(connector: Arc<Connector>, deadline: Duration) -> Result<Self, Error> {
        let (link, ended) = connector.connect_watched(deadline).await?;
        Ok(Self { connector, conn: Some(link.conn), ended, backoff: Backoff::default(), deadline })
    }

    /// Sends the first transaction of a batch; `None` if nothing of it is to be sent.
    pub(super) async fn launch(&mut self, Ahead { mut prepared, queueing }: Ahead) -> Option<Flying> {
        let messages = prepared.parts.front()?.len();
        let landing: Landing = match self.live().cloned().zip(queueing) {
            Some((conn, queueing)) => Box::pin(execute(conn, queueing, messages, prepared.deadline)),
            None => {
                let commands = prepared.commands_of_first();
                match self.connection(prepared.deadline).await {
                    Ok(conn) => {
                        let queueing = queue(&conn, commands, prepared.deadline);
                        Box::pin(execute(conn, queueing, messages, prepared.deadline))
                    }
                    Err(error) => Box::pin(ready(Landed::not_sent(error))),
                }
            }
        };
        let mut flying = Flying { prepared, landing };
        flying.begin().await;
        Some(flying)
    }

    /// Whether only the `EXEC` is left to be sent.
    pub(super) fn has_queued(&self, ahead: &Ahead) -> bool {
        ahead.queueing.is_some() && self.live().is_some()
    }

    /// Has the server queue the next batch behind the one that is on its way, unless something else may have to go in
    /// between.
    pub(super) async fn follow(&self, flying: &mut Flying, mut prepared: Prepared) -> Ahead {
        // Further transactions, and waiting for replicas, use the connection before the next batch does.
        let may_follow = flying.prepared.parts.len() == 1 && self.connector.config.wait == 0;
        let queueing = match self.live() {
            Some(conn) if may_follow && !prepared.parts.is_empty() => {
                begun(queue(conn, prepared.commands_of_first(), prepared.deadline)).await
            }
            _ => None,
        };
        Ahead { prepared, queueing }
    }

    /// Answers each message of a batch whose first transaction has ended, after sending what is left of it. What the
    /// server has queued of the next batch is forgotten unless all went well.
    pub(super) async fn conclude(&mut self, flying: Flying, landed: Landed, ahead: Option<&mut Ahead>) {
        if let Some(ahead) = ahead.filter(|ahead| ahead.queueing.is_some() && !landed.went_well()) {
            ahead.queueing = None;
            // With it goes what the server has queued.
            self.conn = None;
        }
        let mut prepared = flying.prepared;
        let mut first = Some(landed);
        let mut failed = Failed::default();
        let mut parts = std::mem::take(&mut prepared.parts);
        while let Some(mut part) = parts.pop_front() {
            if failed.holds_any(&prepared, &part) {
                let (held, sendable) = part.into_iter().partition(|index| failed.holds(&prepared, *index));
                Vec::into_iter(held).for_each(|index| prepared.batch.complete(index, not_sent()));
                part = sendable;
            }
            if part.is_empty() {
                continue;
            }
            let sent = match first.take() {
                Some(landed) => self.note(landed),
                None => self.send_once(&prepared, &part).await,
            };
            match self.send_again(&prepared, &part, sent).await {
                Sent::Answers(answers) => self.complete(&mut prepared, &part, answers, &mut failed).await,
                Sent::Refused(error) => {
                    let by_topic = prepared.by_topic(&part);
                    if by_topic.len() > 1 {
                        // Nothing was stored; one topic at a time tells which it was.
                        by_topic.into_iter().rev().for_each(|part| parts.push_front(part));
                    } else {
                        failed.refuse(&mut prepared, &part, || Outcome::Rejected(error.duplicate()));
                    }
                }
                Sent::Later(error) => failed.refuse(&mut prepared, &part, || Outcome::Rejected(error.duplicate())),
                Sent::Unknown(error) => failed.refuse(&mut prepared, &part, || Outcome::Unknown(error.duplicate())),
            }
        }
    }

    /// Sends a transaction again for as long as the server refuses it for the moment.
    async fn send_again(&mut self, prepared: &Prepared, part: &[usize], mut sent: Sent) -> Sent {
        let mut pause = SHORTEST_PAUSE;
        while let Sent::Later(error) = &sent
            && Instant::now() + pause < prepared.deadline
        {
            tracing::debug!(%error, "the server refuses messages for the moment");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            sent = self.send_once(prepared, part).await;
        }
        sent
    }

    async fn send_once(&mut self, prepared: &Prepared, part: &[usize]) -> Sent {
        let deadline = prepared.deadline;
        match self.connection(deadline).await {
            Ok(conn) => {
                let queueing = queue(&conn, prepared.commands(part), deadline);
                let landed = execute(conn, queueing, part.len(), deadline).await;
                self.note(landed)
            }
            Err(error) => Sent::Later(error),
        }
    }

    fn note(&mut self, landed: Landed) -> Sent {
        if landed.is_spoiled {
            self.conn = None;
        }
        landed.sent
    }

    /// The connection, unless it was lost.
    fn live(&self) -> Option<&MultiplexedConnection> {
        self.conn.as_ref().filter(|_| !self.ended.load(Ordering::Acquire))
    }

    /// The connection, opened anew if it was lost.
    async fn connection(&mut self, deadline: Instant) -> Result<MultiplexedConnection, Error> {
        loop {
            if let Some(conn) = self.live() {
                return Ok(conn.clone());
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
    async fn complete(&mut self, prepared: &mut Prepared, part: &[usize], answers: Vec<Value>, failed: &mut Failed) {
        if let Err(error) = self.replicated(prepared.deadline).await {
            failed.refuse(prepared, part, || Outcome::Unknown(error.duplicate()));
            return;
        }
        for (&index, answer) in part.iter().zip(answers) {
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

    fn refuse(&mut self, prepared: &mut Prepared, part: &[usize], outcome: impl Fn() -> Outcome) {
        for &index in part {
            self.note(prepared, index);
            prepared.batch.complete(index, outcome());
        }
    }

    fn holds(&self, prepared: &Prepared, index: usize) -> bool {
        let message = prepared.batch.message(index);
        message.key.as_ref().is_some_and(|key| self.keys.contains(&(message.topic.clone(), key.clone())))
    }

    fn holds_any(&self, prepared: &Prepared, part: &[usize]) -> bool {
        !self.keys.is_empty() && part.iter().any(|index| self.holds(prepared, *index))
    }
}

fn not_sent() -> Outcome {
    Outcome::rejected("not sent: an earlier message of the same key in the batch was not confirmed")
}
