//! [`MemoryBroker`], the handle of a bus, and the [`Backend`] by which an address makes one.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use messaging::{
    Address, Admin, Backend, Broker, Capabilities, Clock, Consumer, Error, EventData, Messaging, MessagingOptions,
    Name, NotSettled, PendingWork, Publisher, PublisherOptions, Receipt, Subscription,
};

use crate::{
    admin::MemoryAdmin,
    bus::Bus,
    config::{MemoryBuilder, Settings},
    consumer::MemoryConsumer,
    publisher::MemoryPublisher,
};

/// How long [`MemoryBroker::settled`] waits.
const SETTLE_DEADLINE: Duration = Duration::from_secs(10);

/// A bus in this process, to publish to and to run groups on; and for tests, to look into and to harm. Cheap to clone;
/// clones share the bus.
#[derive(Clone)]
pub struct MemoryBroker {
    pub(crate) bus: Arc<Bus>,
    messaging: Messaging,
}

impl MemoryBroker {
    /// A bus with the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Settings::default(), MessagingOptions::default())
    }

    /// A bus with other options.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder::default()
    }

    pub(crate) fn with(settings: Settings, options: MessagingOptions) -> Self {
        let bus = Bus::new(settings);
        let publisher = Arc::new(MemoryPublisher::new(&bus));
        let messaging = Messaging::with_publisher(Arc::new(Connection(bus.clone())), publisher, options);
        Self { bus, messaging }
    }

    /// What services are given: publishes, and runs groups.
    #[must_use]
    pub fn messaging(&self) -> Messaging {
        self.messaging.clone()
    }

    /// Publishes data as a new event.
    ///
    /// # Errors
    /// As [`Messaging::publish`].
    pub async fn publish<T: EventData>(&self, data: &T) -> Result<Receipt, Error> {
        self.messaging.publish(data).await
    }

    /// Waits until every message has run its course in every group that has subscribed to its topic, and what handlers
    /// published in turn too; 10 s at most, by tokio's clock.
    ///
    /// # Errors
    /// What is still parked, running or waiting by then, a line each.
    pub async fn settled(&self) -> Result<(), NotSettled> {
        self.settled_within(SETTLE_DEADLINE).await
    }

    /// [`settled`](Self::settled) with another deadline.
    ///
    /// # Errors
    /// As [`settled`](Self::settled).
    pub async fn settled_within(&self, deadline: Duration) -> Result<(), NotSettled> {
        self.messaging.settled(deadline).await
    }

    /// A backend that connects to this bus, for a program that is given backends and an address: both `memory:`.
    #[must_use]
    pub fn backend(&self) -> Box<dyn Backend> {
        Box::new(ThisBus(self.bus.clone()))
    }
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MemoryBroker").field(&self.bus).finish()
    }
}

/// Makes a bus for each connection to `memory:`; options in the address: `partitions`, `retain`, `max_messages`,
/// `max_message_bytes`, `lease`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryBackend;

#[async_trait]
impl Backend for MemoryBackend {
    fn schemes(&self) -> &'static [&'static str] {
        &["memory"]
    }

    async fn connect(&self, address: &Address) -> Result<Arc<dyn Broker>, Error> {
        let broker = MemoryBuilder::from_address(address)?.build()?;
        Ok(Arc::new(Connection(broker.bus)))
    }
}

/// Connects to a bus that is there.
struct ThisBus(Arc<Bus>);

#[async_trait]
impl Backend for ThisBus {
    fn schemes(&self) -> &'static [&'static str] {
        &["memory"]
    }

    async fn connect(&self, address: &Address) -> Result<Arc<dyn Broker>, Error> {
        // The bus has its options; another set in the address would be passed over in silence.
        address.options().finish()?;
        Ok(Arc::new(Connection(self.0.clone())))
    }
}

/// The bus as a broker. Apart from [`MemoryBroker`], which holds a [`Messaging`], so that neither keeps the other alive.
struct Connection(Arc<Bus>);

#[async_trait]
impl Broker for Connection {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn publisher(&self, _: PublisherOptions) -> Result<Arc<dyn Publisher>, Error> {
        Ok(Arc::new(MemoryPublisher::new(&self.0)))
    }

    async fn consumer(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, Error> {
        Ok(Box::new(MemoryConsumer::join(&self.0, subscription)))
    }

    fn admin(&self) -> Arc<dyn Admin> {
        Arc::new(MemoryAdmin::new(&self.0))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.0.clock)
    }

    fn log(&self, _: &str) -> Option<Name> {
        Some(self.0.log.clone())
    }

    fn pending(&self) -> Option<Arc<dyn PendingWork>> {
        Some(self.0.clone())
    }

    async fn ping(&self, _: Duration) -> Result<(), Error> {
        Ok(())
    }

    /// The bus goes on for the others that have it.
    async fn close(&self, _: Duration) -> Result<(), Error> {
        Ok(())
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.bus.capabilities
    }

    async fn publisher(&self, options: PublisherOptions) -> Result<Arc<dyn Publisher>, Error> {
        self.messaging.broker().publisher(options).await
    }

    async fn consumer(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, Error> {
        self.messaging.broker().consumer(subscription).await
    }

    fn admin(&self) -> Arc<dyn Admin> {
        self.messaging.broker().admin()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.messaging.broker().clock()
    }

    fn log(&self, topic: &str) -> Option<Name> {
        self.messaging.broker().log(topic)
    }

    fn pending(&self) -> Option<Arc<dyn PendingWork>> {
        self.messaging.broker().pending()
    }

    async fn ping(&self, deadline: Duration) -> Result<(), Error> {
        self.messaging.broker().ping(deadline).await
    }

    async fn close(&self, deadline: Duration) -> Result<(), Error> {
        self.messaging.broker().close(deadline).await
    }
}
