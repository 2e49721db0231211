//! [`Obstructed`]: a broker whose dead letters do not get through for as long as a test wants.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use messaging::{
    Admin, Batch, Broker, Capabilities, Clock, Consumer, DeadLetterSink, Error, ErrorKind, Intake, Message, Outcome,
    PartitionHandle, PendingWork, Position, Publisher, PublisherOptions, Settlement, Subscription,
};

/// What becomes of dead letters.
#[derive(Debug, Default)]
pub(crate) struct Obstacle {
    kind: AtomicU8,
    met: AtomicUsize,
}

const NONE: u8 = 0;
const AWAY: u8 = 1;
const REFUSED: u8 = 2;

impl Obstacle {
    /// From now on nobody answers to dead letters.
    pub(crate) fn keep_away(&self) {
        self.kind.store(AWAY, Ordering::Relaxed);
    }

    /// From now on dead letters are refused for good.
    pub(crate) fn refuse(&self) {
        self.kind.store(REFUSED, Ordering::Relaxed);
    }

    /// They get through again.
    pub(crate) fn clear(&self) {
        self.kind.store(NONE, Ordering::Relaxed);
    }

    /// How many dead letters did not get through.
    pub(crate) fn met(&self) -> usize {
        self.met.load(Ordering::Relaxed)
    }

    fn meet(&self) -> Option<Error> {
        let error = match self.kind.load(Ordering::Relaxed) {
            AWAY => Error::new(ErrorKind::Unknown, "nobody answers, as the test wants it"),
            REFUSED => Error::new(ErrorKind::Rejected, "refused, as the test wants it"),
            _ => return None,
        };
        self.met.fetch_add(1, Ordering::Relaxed);
        Some(error)
    }
}

/// A broker behind an obstacle.
pub(crate) struct Obstructed {
    inner: Arc<dyn Broker>,
    obstacle: Arc<Obstacle>,
}

impl Obstructed {
    pub(crate) fn around(inner: Arc<dyn Broker>) -> (Arc<dyn Broker>, Arc<Obstacle>) {
        let obstacle = Arc::<Obstacle>::default();
        (Arc::new(Self { inner, obstacle: obstacle.clone() }), obstacle)
    }
}

#[async_trait]
impl Broker for Obstructed {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn publisher(&self, options: PublisherOptions) -> Result<Arc<dyn Publisher>, Error> {
        let inner = self.inner.publisher(options).await?;
        Ok(Arc::new(ObstructedPublisher { inner, obstacle: self.obstacle.clone() }))
    }

    async fn consumer(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, Error> {
        let inner = self.inner.consumer(subscription).await?;
        Ok(Box::new(ObstructedConsumer { inner, obstacle: self.obstacle.clone() }))
    }

    fn admin(&self) -> Arc<dyn Admin> {
        self.inner.admin()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.inner.clock()
    }

    fn pending(&self) -> Option<Arc<dyn PendingWork>> {
        self.inner.pending()
    }

    async fn ping(&self, deadline: Duration) -> Result<(), Error> {
        self.inner.ping(deadline).await
    }

    async fn close(&self, deadline: Duration) -> Result<(), Error> {
        self.inner.close(deadline).await
    }
}

struct ObstructedPublisher {
    inner: Arc<dyn Publisher>,
    obstacle: Arc<Obstacle>,
}

#[async_trait]
impl Publisher for ObstructedPublisher {
    fn send(&self, mut batch: Batch) {
        if !batch.message(0).topic.ends_with(".dlq") {
            return self.inner.send(batch);
        }
        match self.obstacle.meet() {
            Some(error) if error.kind() == ErrorKind::Rejected => batch.complete(0, Outcome::Rejected(error)),
            Some(error) => batch.complete(0, Outcome::Unknown(error)),
            None => self.inner.send(batch),
        }
    }

    fn depth(&self) -> usize {
        self.inner.depth()
    }

    /// One at a time: a batch cannot be divided.
    fn max_batch(&self) -> usize {
        1
    }

    async fn close(&self, deadline: Duration) -> Result<(), Error> {
        self.inner.close(deadline).await
    }
}

struct ObstructedConsumer {
    inner: Box<dyn Consumer>,
    obstacle: Arc<Obstacle>,
}

impl Consumer for ObstructedConsumer {
    fn poll_fill(&mut self, cx: &mut Context<'_>, intake: &mut Intake<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_fill(cx, intake)
    }

    fn settle(&mut self, settlement: Settlement<'_>) {
        self.inner.settle(settlement);
    }

    fn release(&mut self, partition: PartitionHandle) {
        self.inner.release(partition);
    }

    fn begin_close(&mut self) {
        self.inner.begin_close();
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_close(cx)
    }

    fn dead_letters(&self) -> Option<Arc<dyn DeadLetterSink>> {
        let inner = self.inner.dead_letters()?;
        Some(Arc::new(ObstructedSink { inner, obstacle: self.obstacle.clone() }))
    }
}

struct ObstructedSink {
    inner: Arc<dyn DeadLetterSink>,
    obstacle: Arc<Obstacle>,
}

#[async_trait]
impl DeadLetterSink for ObstructedSink {
    async fn dead_letter(
        &self,
        partition: PartitionHandle,
        epoch: u64,
        position: Position,
        letter: Arc<Message>,
    ) -> Result<(), Error> {
        match self.obstacle.meet() {
            Some(error) => Err(error),
            None => self.inner.dead_letter(partition, epoch, position, letter).await,
        }
    }
}
