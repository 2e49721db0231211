//! [`Mutant`]: the in-process bus with a fault, and the factory of such buses.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use messaging::{
    Admin, BoxError, Broker, Capabilities, Clock, Consumer, Error, ErrorKind, Messaging, MessagingOptions, Name,
    PendingWork, Publisher, PublisherOptions, Subscription, Tick,
};
use messaging_conformance::{Cluster, Factory, Need, Pace, Sever};
use messaging_memory::{ConsumerId, MemoryBroker};
use parking_lot::Mutex;

use crate::{consuming::MutantConsumer, publishing::MutantPublisher};

/// What is wrong with a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// One message of a large batch is confirmed and never stored.
    LosesOne,
    /// The first two messages of one key in a large batch are stored the other way round.
    SwapsTwo,
    /// What many have overtaken is settled unfinished.
    SettlesEarly,
    /// Messages are confirmed a while before they are stored.
    ConfirmsEarly,
    /// When another instance joins, partitions are let go while their handlers run on.
    IgnoresRevoke,
    /// The clock by which an owner knows that its time is up stands still.
    StartsLate,
    /// One message of a large batch is stored twice.
    Doubles,
    /// Dead letters are confirmed and never stored.
    DropsDeadLetter,
}

/// What cannot be done to any bus.
const LACKS: [(Need, &str); 4] = [
    (Need::Server, "the bus ends with its process"),
    (Need::Route, "the bus is reached without a network"),
    (Need::Processes, "the bus is reached from its own process alone"),
    (Need::Forget, "the mutants have no retention"),
];

pub(crate) fn applies(needs: &[Need]) -> bool {
    !needs.iter().any(|need| LACKS.iter().any(|(lack, _)| lack == need))
}

/// Makes buses with this fault.
pub(crate) struct Mutants {
    pub(crate) mutation: Option<Mutation>,
}

struct Bus {
    bus: MemoryBroker,
    mutation: Option<Mutation>,
    joins: Joins,
}

/// How many consumers have joined each group.
type Joins = Arc<Mutex<HashMap<Name, Arc<AtomicUsize>>>>;

#[async_trait]
impl Factory for Mutants {
    fn name(&self) -> &str {
        "mutant"
    }

    fn lacks(&self) -> Vec<(Need, &'static str)> {
        LACKS.to_vec()
    }

    fn pace(&self) -> Pace {
        Pace::default().patience(Duration::from_secs(3))
    }

    async fn shared(&self) -> Result<Arc<dyn Cluster>, BoxError> {
        let bus = MemoryBroker::builder().lease(Duration::from_secs(2)).build()?;
        Ok(Arc::new(Bus { bus, mutation: self.mutation, joins: Arc::default() }))
    }

    async fn own(&self) -> Result<Arc<dyn Cluster>, BoxError> {
        self.shared().await
    }

    async fn connect(&self, url: &str) -> Result<Arc<dyn Broker>, Error> {
        Err(Error::new(ErrorKind::Unsupported, format!("{url}: no other process reaches a bus")))
    }
}

#[async_trait]
impl Cluster for Bus {
    async fn connect(&self) -> Result<Arc<dyn Broker>, Error> {
        let inner = self.bus.messaging().broker().clone();
        let Some(mutation) = self.mutation else { return Ok(inner) };
        let publishing = Messaging::new(inner.clone(), MessagingOptions::default()).await?;
        Ok(Arc::new(Mutant { inner, mutation, publishing, joins: self.joins.clone() }))
    }

    fn sever(&self, group: &str) -> Option<Box<dyn Sever>> {
        let newest = *self.bus.consumers(group).last()?;
        Some(Box::new(Line { bus: self.bus.clone(), consumer: newest }))
    }

    async fn grow(&self, topic: &str, partitions: u32) -> Result<bool, BoxError> {
        self.bus.grow_topic(topic, partitions)?;
        Ok(true)
    }
}

struct Line {
    bus: MemoryBroker,
    consumer: ConsumerId,
}

impl Sever for Line {
    fn sever(&self) {
        self.bus.silence(self.consumer).unwrap();
    }

    fn restore(&self) {
        self.bus.restore(self.consumer).unwrap();
    }
}

/// A connection to a bus that has a fault.
struct Mutant {
    inner: Arc<dyn Broker>,
    mutation: Mutation,
    /// By which messages reach the bus.
    publishing: Messaging,
    joins: Joins,
}

#[async_trait]
impl Broker for Mutant {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn publisher(&self, options: PublisherOptions) -> Result<Arc<dyn Publisher>, Error> {
        let inner = self.inner.publisher(options).await?;
        Ok(Arc::new(MutantPublisher::new(inner, self.mutation, self.publishing.clone())))
    }

    async fn consumer(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, Error> {
        let inner = self.inner.consumer(subscription).await?;
        let joins = self.joins.lock().entry(subscription.group.clone()).or_default().clone();
        joins.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(MutantConsumer::new(inner, self.mutation, joins)))
    }

    fn admin(&self) -> Arc<dyn Admin> {
        self.inner.admin()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        match self.mutation {
            Mutation::StartsLate => Arc::new(Stopped(self.inner.clock().now())),
            _ => self.inner.clock(),
        }
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

struct Stopped(Tick);

impl Clock for Stopped {
    fn now(&self) -> Tick {
        self.0
    }
}
