//! [`KafkaPublisher`]: batches into an idempotent producer, answers out of its delivery reports.
//!
//! A batch goes to librdkafka on the caller's thread, which only copies it into a queue. What cannot go at once (the queue
//! is full, a topic's number of partitions is not known yet) waits in the [`Backlog`](crate::backlog::Backlog), in order,
//! with everything behind it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use messaging::{Batch, Error, ErrorKind, Outcome, Publisher, cloudevents};
use parking_lot::{Mutex, RwLock};
use rdkafka::{
    client::ClientContext,
    config::{ClientConfig, RDKafkaLogLevel},
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
    types::RDKafkaErrorCode as Code,
};
use tokio::sync::watch;

use crate::{
    admin::KafkaAdmin,
    backlog::Backlog,
    error::{from_kafka, unavailable},
    log, outcome,
    outstanding::{Answered, Outstanding, Slot},
    topics::Topics,
};

/// How many batches may be with librdkafka: it makes requests of its own size out of them, so that this bounds only
/// how far a slow broker is run ahead of.
const DEPTH: usize = 64;
/// How long the polling thread waits for reports before it looks whether it should end.
const POLL: Duration = Duration::from_millis(50);

/// librdkafka's setting for the largest batch of records.
pub(crate) const BATCH_BYTES: &str = "batch.size";

type Client = BaseProducer<Context>;

/// What librdkafka calls back.
pub(crate) struct Context {
    outstanding: Arc<Outstanding>,
    /// The client can do nothing more; a new one is needed.
    broken: Arc<AtomicBool>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log::line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(Code::Fatal) {
            self.broken.store(true, Ordering::Release);
        }
        log::client_error(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        if let Err((error, _)) = result
            && error.rdkafka_error_code() == Some(Code::Fatal)
        {
            self.broken.store(true, Ordering::Release);
        }
        self.outstanding.delivered(opaque, result);
    }
}

/// What the caller's thread, the polling thread and the backlog's thread share.
pub(crate) struct Sender {
    /// `None` once closed.
    client: RwLock<Option<Arc<Client>>>,
    /// What the next client is made with.
    config: Mutex<ClientConfig>,
    broken: Arc<AtomicBool>,
    outstanding: Arc<Outstanding>,
    pub(crate) deadline: Duration,
    pub(crate) admin: KafkaAdmin,
    pub(crate) backlog: Backlog,
    state: Mutex<State>,
    ended: watch::Sender<Option<bool>>,
}

pub(crate) struct State {
    pub(crate) topics: Topics,
    /// Until then what was handed over may be sent, once closing.
    closing: Option<Instant>,
}

/// Where sending a batch stopped.
pub(crate) enum Stopped {
    /// At its end.
    Done,
    /// The client's queue is full.
    Full,
    /// This message's topic is not known.
    UnknownTopic(messaging::Name),
}

/// A publisher on a Kafka cluster.
pub(crate) struct KafkaPublisher {
    sender: Arc<Sender>,
}

impl KafkaPublisher {
    pub(crate) fn open(config: ClientConfig, deadline: Duration, admin: KafkaAdmin) -> Result<Arc<Self>, Error> {
        let outstanding = Arc::new(Outstanding::default());
        let broken = Arc::new(AtomicBool::new(false));
        let client = create(&config, &outstanding, &broken)?;
        let sender = Arc::new(Sender {
            client: RwLock::new(Some(Arc::new(client))),
            config: Mutex::new(config),
            broken,
            outstanding,
            deadline,
            admin,
            backlog: Backlog::default(),
            state: Mutex::new(State { topics: Topics::default(), closing: None }),
            ended: watch::Sender::new(None),
        });
        for (name, run) in [("kafka-reports", Sender::poll as fn(&Sender)), ("kafka-backlog", Sender::work_off)] {
            let sender = sender.clone();
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn(move || run(&sender)).map_err(|error| unavailable("starting a thread").with_source(error))?;
        }
        Ok(Arc::new(Self { sender }))
    }
}

#[async_trait]
impl Publisher for KafkaPublisher {
    fn send(&self, batch: Batch) {
        self.sender.send(batch);
    }

    fn depth(&self) -> usize {
        DEPTH
    }

    async fn close(&self, deadline: Duration) -> Result<(), Error> {
        let mut ended = self.sender.ended.subscribe();
        self.sender.close(Instant::now() + deadline);
        match ended.wait_for(Option::is_some).await.map(|ended| *ended) {
            Ok(Some(true)) => Ok(()),
            _ => Err(Error::new(ErrorKind::Timeout, "the publisher closed before every message had its confirm")),
        }
    }
}

impl Drop for KafkaPublisher {
    fn drop(&mut self) {
        self.sender.close(Instant::now());
    }
}

/// Answers a batch that came after the close.
fn refuse(mut batch: Batch) {
    for index in 0..batch.len() {
        batch.complete(index, Outcome::Rejected(Error::new(ErrorKind::Closed, "the publisher is closed")));
    }
}

fn create(config: &ClientConfig, outstanding: &Arc<Outstanding>, broken: &Arc<AtomicBool>) -> Result<Client, Error> {
    let context = Context { outstanding: outstanding.clone(), broken: broken.clone() };
    config.create_with_context(context).map_err(crate::error::from_creation)
}

impl Sender {
    fn send(&self, batch: Batch) {
        let mut answered = Vec::new();
        let mut state = self.state.lock();
        if state.closing.is_some() {
            drop(state);
            refuse(batch);
            return;
        }
        let slot = self.outstanding.insert(batch);
        if !self.backlog.is_empty() {
            self.backlog.push(slot, 0);
            return;
        }
        let mut next = 0;
        match self.enqueue(&mut state, slot, &mut next, &mut answered) {
            Stopped::Done => {}
            Stopped::Full | Stopped::UnknownTopic(_) => self.backlog.push(slot, next),
        }
        drop(state);
        // Outside the lock: the end of a batch lets the next one in.
        drop(answered);
    }

    /// Hands a batch's messages from `next` on to the client, as far as it goes.
    pub(crate) fn enqueue(
        &self,
        state: &mut State,
        slot: Slot,
        next: &mut usize,
        answered: &mut Vec<Answered>,
    ) -> Stopped {
        let Some(client) = self.client.read().clone() else { return Stopped::Done };
        let (stopped, done) = self.outstanding.with(slot, |sent| {
            while *next < sent.len() {
                if sent.follows_unconfirmed(*next) {
                    sent.answer(*next, Outcome::rejected("not sent: an earlier message of its key was not confirmed"));
                    *next += 1;
                    continue;
                }
                let message = sent.message(*next);
                let Some(partition) = state.topics.partition(message) else {
                    return Stopped::UnknownTopic(message.topic.clone());
                };
                let mut headers = Some(OwnedHeaders::new_with_capacity(8));
                cloudevents::write_binary(message, |name, value| {
                    headers = headers.take().map(|headers| headers.insert(Header { key: name, value: Some(value) }));
                });
                let record = BaseRecord::<[u8], [u8], usize> {
                    topic: &message.topic,
                    partition: Some(partition.cast_signed()),
                    payload: Some(&message.payload[..]),
                    key: message.key.as_deref(),
                    timestamp: None,
                    headers,
                    delivery_opaque: Outstanding::opaque(slot, *next),
                };
                match client.send(record) {
                    Ok(()) => sent.release(*next),
                    Err((error, _)) => match error.rdkafka_error_code() {
                        Some(Code::QueueFull) => return Stopped::Full,
                        Some(Code::Fatal) => {
                            self.broken.store(true, Ordering::Release);
                            return Stopped::Full;
                        }
                        code => {
                            if matches!(code, Some(Code::UnknownPartition | Code::UnknownTopic)) {
                                state.topics.forget(&message.topic);
                            }
                            let refused = outcome::refused_locally(&message.topic, &error);
                            sent.answer(*next, refused);
                        }
                    },
                }
                *next += 1;
            }
            Stopped::Done
        });
        answered.push(done);
        stopped.unwrap_or(Stopped::Done)
    }

    /// Answers a batch's messages from `next` on, none of which was sent.
    pub(crate) fn refuse_rest(&self, slot: Slot, next: usize, outcome: impl Fn() -> Outcome) {
        let (_, answered) =
            self.outstanding.with(slot, |sent| (next..sent.len()).for_each(|index| sent.answer(index, outcome())));
        drop(answered);
    }

    /// Answers one message that was not sent.
    pub(crate) fn refuse_one(&self, slot: Slot, index: usize, outcome: Outcome) -> Answered {
        self.outstanding.with(slot, |sent| sent.answer(index, outcome)).1
    }

    /// How many messages a batch has.
    pub(crate) fn len(&self, slot: Slot) -> usize {
        self.outstanding.with(slot, |sent| sent.len()).0.unwrap_or(0)
    }

    /// How long a batch has been here.
    pub(crate) fn age(&self, slot: Slot) -> Duration {
        self.outstanding.with(slot, |sent| sent.age()).0.unwrap_or_default()
    }

    pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Until when what was handed over may still be sent; `None` while the publisher is open.
    pub(crate) fn closing(&self) -> Option<Instant> {
        self.state.lock().closing
    }

    fn close(&self, deadline: Instant) {
        let mut state = self.state.lock();
        state.closing = Some(state.closing.map_or(deadline, |earlier| earlier.min(deadline)));
        drop(state);
        self.backlog.wake();
    }

    /// The polling thread: answers batches, replaces a client that has failed for good, closes.
    fn poll(&self) {
        loop {
            let Some(client) = self.client.read().clone() else { return };
            client.poll(POLL);
            if self.broken.load(Ordering::Acquire) {
                self.replace(client);
                continue;
            }
            if let Some(deadline) = self.closing() {
                let done = self.backlog.is_empty() && self.outstanding.is_empty();
                if done || Instant::now() >= deadline {
                    *self.client.write() = None;
                    drop(client);
                    self.outstanding.abandon();
                    self.ended.send_replace(Some(done));
                    self.backlog.wake();
                    return;
                }
            }
        }
    }

    /// Whether the polling thread has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// A topic takes no larger batches than this. The broker would refuse a larger one with every message in it, so that
    /// the client has to make smaller ones from now on: another client, once this one has sent what it has. Called while
    /// everything that follows waits in the backlog.
    ///
    /// # Errors
    /// If the client could not send everything in time, or no other could be made; to be tried again.
    pub(crate) fn batch_at_most(&self, bytes: usize) -> Result<(), Error> {
        let mut config = self.config.lock();
        let now = config.get(BATCH_BYTES).and_then(|now| now.parse().ok()).unwrap_or(usize::MAX);
        let Some(old) = self.client.read().clone().filter(|_| bytes < now) else { return Ok(()) };
        old.flush(self.deadline).map_err(|error| from_kafka("flushing", error))?;
        config.set(BATCH_BYTES, bytes.to_string());
        *self.client.write() = Some(Arc::new(create(&config, &self.outstanding, &self.broken)?));
        Ok(())
    }

    /// A fatal error (the broker has lost track of the idempotent producer) ends a client, not the publisher: what is out
    /// becomes unknown, what follows goes through a new client.
    fn replace(&self, old: Arc<Client>) {
        let error = old.client().fatal_error();
        tracing::warn!(?error, "the producer failed for good and is replaced; what it held is unknown");
        match create(&self.config.lock(), &self.outstanding, &self.broken) {
            Ok(client) => {
                *self.client.write() = Some(Arc::new(client));
                self.broken.store(false, Ordering::Release);
                old.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
                if let Err(error) = old.flush(Duration::from_secs(1)) {
                    tracing::warn!(%error, "the old producer did not report everything");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "no new producer could be made; trying again");
                std::thread::sleep(POLL);
            }
        }
    }
}
