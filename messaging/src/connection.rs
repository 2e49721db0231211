//! [`Messaging`]: one connected broker, to publish to and to run groups on; [`configure_messaging`] makes it from the
//! configuration.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::Serialize;

use crate::{
    address::Address,
    broker::{Admin, Broker, PublisherOptions},
    capability::Capabilities,
    codec::Codecs,
    config::MessagingConfig,
    error::{Error, ErrorKind},
    event::{Event, EventData},
    executor::{self, GroupSetup, Running},
    message::Message,
    name::Name,
    pending::{NotSettled, PendingWork},
    publish::{Encoder, Front},
    publisher::{Outcome, Publisher, Receipt},
    router::{GroupPlan, IntoRouter, Router},
    telemetry::PublishMeter,
    trace::{TracePropagator, continue_trace},
};

/// A kind of broker that can be chosen by the scheme of its address.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The schemes it serves, the usual one first.
    fn schemes(&self) -> &'static [&'static str];

    /// Connects to the broker at this address.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming the option that is wrong or unknown; [`ErrorKind::Unavailable`] if the broker
    /// cannot be reached within the backend's connect deadline.
    async fn connect(&self, address: &Address) -> Result<Arc<dyn Broker>, Error>;
}

/// Connects to the broker that the configuration names, by one of these backends.
///
/// # Errors
/// [`ErrorKind::Config`] if no backend serves the address's scheme (the error lists those there are) or an option is
/// wrong; [`ErrorKind::Unavailable`] if the broker cannot be reached.
pub async fn configure_messaging(
    config: &MessagingConfig,
    backends: Vec<Box<dyn Backend>>,
) -> Result<Messaging, Error> {
    let scheme = config.address.scheme.as_str();
    let Some(backend) = backends.iter().find(|backend| backend.schemes().contains(&scheme)) else {
        let known: Vec<&str> = backends.iter().flat_map(|backend| backend.schemes()).copied().collect();
        return Err(Error::new(
            ErrorKind::Config,
            format!("no backend serves {scheme:?}; this program has: {}", known.join(", ")),
        ));
    };
    let broker = backend.connect(&config.address).await?;
    let options = MessagingOptions {
        source: config.source.clone(),
        codecs: config.codecs.clone(),
        trace_propagator: config.trace_propagator.clone(),
        publisher: PublisherOptions { deadline: config.publish_deadline, ..PublisherOptions::default() },
    };
    Messaging::new(broker, options).await
}

/// How a [`Messaging`] is made from a broker.
#[derive(Clone)]
pub struct MessagingOptions {
    /// The source of its events (CloudEvents `source`).
    pub source: Name,
    /// Codecs beside JSON.
    pub codecs: Codecs,
    /// Joins its spans to the traces of other processes.
    pub trace_propagator: Option<Arc<dyn TracePropagator>>,
    /// How its publisher is opened.
    pub publisher: PublisherOptions,
}

impl Default for MessagingOptions {
    fn default() -> Self {
        Self {
            source: Name::from_static("messaging"),
            codecs: Codecs::default(),
            trace_propagator: None,
            publisher: PublisherOptions::default(),
        }
    }
}

impl fmt::Debug for MessagingOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessagingOptions")
            .field("source", &self.source)
            .field("codecs", &self.codecs)
            .field("publisher", &self.publisher)
            .finish_non_exhaustive()
    }
}

/// One connected broker: publishes events, runs groups. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Messaging {
    inner: Arc<Inner>,
}

struct Inner {
    broker: Arc<dyn Broker>,
    front: Arc<Front>,
    encoder: Encoder,
    codecs: Codecs,
    trace_propagator: Option<Arc<dyn TracePropagator>>,
    meter: PublishMeter,
    groups: Mutex<Vec<Weak<executor::Shared>>>,
    pending: Mutex<Vec<Arc<dyn PendingWork>>>,
}

impl Messaging {
    /// Opens a publisher on a broker.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    pub async fn new(broker: Arc<dyn Broker>, options: MessagingOptions) -> Result<Self, Error> {
        let publisher = broker.publisher(options.publisher.clone()).await?;
        Ok(Self::with_publisher(broker, publisher, options))
    }

    /// The same with a publisher of the broker that is open already.
    #[must_use]
    pub fn with_publisher(broker: Arc<dyn Broker>, publisher: Arc<dyn Publisher>, options: MessagingOptions) -> Self {
        let front = Front::new(publisher, options.publisher.deadline, broker.capabilities().max_message_bytes);
        let pending = broker.pending().into_iter().collect();
        Self {
            inner: Arc::new(Inner {
                encoder: Encoder::new(options.source, options.codecs.clone(), options.trace_propagator.clone()),
                codecs: options.codecs,
                trace_propagator: options.trace_propagator,
                broker,
                front,
                meter: PublishMeter::new(),
                groups: Mutex::default(),
                pending: Mutex::new(pending),
            }),
        }
    }

    /// Publishes data as a new event; returns once the broker has confirmed it.
    ///
    /// Dropping the future after its first poll does not recall the event.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the data cannot be encoded; otherwise of a kind that says whether the event surely
    /// was not stored ([`Outcome::Rejected`]) or may have been ([`ErrorKind::Unknown`]).
    pub async fn publish<T: EventData>(&self, data: &T) -> Result<Receipt, Error> {
        let mut message = self.inner.encoder.data(data)?;
        match self.send_now(&mut message) {
            Some(receipt) => {
                self.inner.encoder.reuse(message);
                Ok(receipt)
            }
            None => self.send_and_wait(message).await.confirmed(),
        }
    }

    /// Publishes an event with an envelope of its own.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_event<T: Serialize>(&self, event: Event<T>) -> Result<Receipt, Error> {
        let message = self.inner.encoder.event(event)?;
        self.send(message).await.confirmed()
    }

    /// Publishes data as new events, in their order and together; an outcome for each.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if one cannot be encoded; then none is published.
    pub async fn publish_all<'a, T: EventData + 'a>(
        &self,
        data: impl IntoIterator<Item = &'a T>,
    ) -> Result<Vec<Outcome>, Error> {
        let messages = data.into_iter().map(|data| self.inner.encoder.data(data)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.publish_messages(messages).await)
    }

    /// Publishes a message as it is: to a foreign topic, without an envelope.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_raw(&self, message: Message) -> Result<Receipt, Error> {
        self.send(Arc::new(message)).await.confirmed()
    }

    /// Publishes messages as they are, in their order and together; an outcome for each.
    pub async fn publish_messages(&self, messages: Vec<Arc<Message>>) -> Vec<Outcome> {
        let spans = self.spans(&messages);
        let outcomes = self.inner.front.publish_all(messages, false).await;
        drop(spans);
        outcomes.iter().for_each(|outcome| self.count(outcome));
        outcomes
    }

    /// Publishes messages and waits until every subscribed group has settled each of them: what stands in for a confirm
    /// on a bus that is not durable. An outcome for each.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the backend lacks [`settles_publishes`](Capabilities::settles_publishes).
    pub async fn publish_until_settled(&self, messages: Vec<Arc<Message>>) -> Result<Vec<Outcome>, Error> {
        let needed = [crate::Capability::SettlesPublishes];
        self.capabilities().check(self.inner.broker.name(), &"publish_until_settled", needed)?;
        let spans = self.spans(&messages);
        let outcomes = self.inner.front.publish_all(messages, true).await;
        drop(spans);
        Ok(outcomes)
    }

    /// Makes messages as this connection does, without sending them.
    #[must_use]
    pub fn encoder(&self) -> Encoder {
        self.inner.encoder.another()
    }

    /// Encodes data as the message that [`publish`](Self::publish) would send.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the data cannot be encoded.
    pub fn encode<T: EventData>(&self, data: &T) -> Result<Arc<Message>, Error> {
        self.inner.encoder.data(data)
    }

    /// Encodes an event as the message that [`publish_event`](Self::publish_event) would send.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the data cannot be encoded.
    pub fn encode_event<T: Serialize>(&self, event: Event<T>) -> Result<Arc<Message>, Error> {
        self.inner.encoder.event(event)
    }

    /// Runs routers as instances of their groups, until the answer is shut down or dropped. Routers of one group are
    /// merged into one instance.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if two routers of a group contradict each other or have two handlers for one event;
    /// [`ErrorKind::Unsupported`] if the backend lacks what a group requires; otherwise what keeps the group from
    /// joining. Nothing runs then.
    pub async fn run(&self, routers: impl IntoIterator<Item = impl IntoRouter>) -> Result<Running, Error> {
        let plans = GroupPlan::merge(routers.into_iter().map(IntoRouter::into_router))?;
        let broker = &self.inner.broker;
        for plan in &plans {
            plan.subscription.check(broker.name(), broker.capabilities())?;
        }
        let mut running = Running { groups: Vec::with_capacity(plans.len()) };
        for plan in plans {
            let setup = GroupSetup {
                consumer: broker.consumer(&plan.subscription).await?,
                front: self.inner.front.clone(),
                codecs: self.inner.codecs.clone(),
                gate: broker.clock(),
                trace_propagator: self.inner.trace_propagator.clone(),
            };
            running.groups.push(executor::start(plan, setup));
        }
        let mut groups = self.inner.groups.lock();
        groups.retain(|group| group.strong_count() > 0);
        groups.extend(running.groups.iter().map(|group| Arc::downgrade(&group.shared)));
        Ok(running)
    }

    /// Runs one router; see [`run`](Self::run).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_one(&self, router: impl IntoRouter) -> Result<Running, Error> {
        self.run([router.into_router()]).await
    }

    /// Checks by configuration alone that these routers can run together on this broker.
    ///
    /// # Errors
    /// As [`run`](Self::run), as far as it can be known without joining.
    pub fn check(&self, routers: impl IntoIterator<Item = Router>) -> Result<(), Error> {
        let broker = &self.inner.broker;
        GroupPlan::merge(routers)?
            .iter()
            .try_for_each(|plan| plan.subscription.check(broker.name(), broker.capabilities()))
    }

    /// Waits until all work that this process knows of has run its course: every published event handled, skipped or
    /// dead-lettered by every group, and what handlers published in turn. For tests and for the in-process bus; a
    /// networked broker knows of no pending work.
    ///
    /// # Errors
    /// [`NotSettled`] after `deadline`, with what is still parked, running or waiting.
    pub async fn settled(&self, deadline: Duration) -> Result<(), NotSettled> {
        let sources = self.inner.pending.lock().clone();
        let wait = async {
            // One source may wake another (an outbox publishes, a handler records): all must be idle in one look.
            while sources.iter().any(|source| source.pending() > 0) {
                for source in &sources {
                    source.idle().await;
                }
            }
        };
        if tokio::time::timeout(deadline, wait).await.is_ok() {
            return Ok(());
        }
        let groups: Vec<_> = self.inner.groups.lock().iter().filter_map(Weak::upgrade).collect();
        let held = groups.iter().flat_map(|group| group.describe());
        Err(NotSettled { pending: held.chain(sources.iter().flat_map(|source| source.describe())).collect() })
    }

    /// Lets [`settled`](Self::settled) wait for another source of work, such as an outbox.
    pub fn register_pending(&self, source: Arc<dyn PendingWork>) {
        self.inner.pending.lock().push(source);
    }

    /// The means to look at and prepare topics and groups.
    #[must_use]
    pub fn admin(&self) -> Arc<dyn Admin> {
        self.inner.broker.admin()
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.inner.broker
    }

    /// What the broker can do.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        self.inner.broker.capabilities()
    }

    /// What joins spans to the traces of other processes, if there is such.
    #[must_use]
    pub fn trace_propagator(&self) -> Option<&Arc<dyn TracePropagator>> {
        self.inner.trace_propagator.as_ref()
    }

    /// Decodes payloads by content type.
    #[must_use]
    pub fn codecs(&self) -> &Codecs {
        &self.inner.codecs
    }

    /// Checks that the broker answers, for readiness.
    ///
    /// # Errors
    /// If it does not within `deadline`.
    pub async fn ping(&self, deadline: Duration) -> Result<(), Error> {
        self.inner.broker.ping(deadline).await
    }

    /// Closes the publisher, then the connection. Shut running groups down before: their dead letters need the
    /// publisher.
    ///
    /// # Errors
    /// If something published had no outcome at the deadline.
    pub async fn close(&self, deadline: Duration) -> Result<(), Error> {
        let published = self.inner.front.close(deadline).await;
        published.and(self.inner.broker.close(deadline).await)
    }

    async fn send(&self, mut message: Arc<Message>) -> Outcome {
        match self.send_now(&mut message) {
            Some(receipt) => Outcome::Confirmed(receipt),
            None => self.send_and_wait(message).await,
        }
    }

    /// Sends without waiting, if the backend can and nobody listens for spans.
    #[inline]
    fn send_now(&self, message: &mut Arc<Message>) -> Option<Receipt> {
        if tracing::level_enabled!(tracing::Level::INFO) {
            return None;
        }
        let receipt = self.inner.front.publish_now(message)?;
        self.inner.meter.confirmed.increment(1);
        Some(receipt)
    }

    async fn send_and_wait(&self, message: Arc<Message>) -> Outcome {
        let span = span(&message);
        let publishing = self.inner.front.publish(message);
        let outcome =
            if span.is_disabled() { publishing.await } else { tracing::Instrument::instrument(publishing, span).await };
        self.count(&outcome);
        outcome
    }

    /// A span for each message of a batch, which goes on with the trace of its cause; none without a propagator.
    fn spans(&self, messages: &[Arc<Message>]) -> Vec<tracing::Span> {
        let Some(propagator) = &self.inner.trace_propagator else { return Vec::new() };
        let traced = |message: &Arc<Message>| {
            let span = span(message);
            continue_trace(&**propagator, &span, &message.attributes);
            span
        };
        messages.iter().map(traced).collect()
    }

    fn count(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Confirmed(_) | Outcome::Settled(_) => self.inner.meter.confirmed.increment(1),
            Outcome::Rejected(_) => self.inner.meter.rejected.increment(1),
            Outcome::Unknown(_) => self.inner.meter.unknown.increment(1),
        }
    }
}

/// The span of a publish, by the names of OpenTelemetry's semantic conventions for messaging.
fn span(message: &Message) -> tracing::Span {
    tracing::info_span!(
        target: "messaging::publish",
        "publish",
        otel.kind = "producer",
        messaging.operation.r#type = "send",
        messaging.destination.name = %message.topic,
        messaging.message.id = message.envelope.as_ref().map(|envelope| tracing::field::display(&envelope.id)),
        messaging.message.body.size = message.payload.len(),
        messaging.event = message.name(),
    )
}

impl fmt::Debug for Messaging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messaging").field("broker", &self.inner.broker.name()).finish_non_exhaustive()
    }
}
