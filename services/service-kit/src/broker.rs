//! Connecting a service to the broker that its settings name.

use std::sync::Arc;
use std::time::Duration;

use messaging::{Backend, Messaging, MessagingConfig, Name, Router, Running, configure_messaging};
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

use crate::BoxFuture;
use crate::http::ReadinessCheck;
use crate::lag::Watched;
use crate::outbox::Outbox;
use crate::patience::patiently;
use crate::process::StartError;
use crate::settings::{Environment, Setting, TopicSettings};

/// Which broker, and its address.
pub const MESSAGING_URL: Setting = Setting::new(
    "MESSAGING_URL",
    "the broker: `memory:`, `kafka://host:9092`, `redis://host:6379` or `amqp://host:5672`, as far as it is built in",
)
.secret();

/// Which broker, beside its address variable.
pub const MESSAGING_BROKER: Setting =
    Setting::new("MESSAGING_BROKER", "the broker's name, where one of the following three has its address");

/// Kafka's address.
pub const KAFKA_BOOTSTRAP_SERVERS: Setting =
    Setting::new("KAFKA_BOOTSTRAP_SERVERS", "instead of `MESSAGING_URL`: `host:9092`, with commas").secret();

/// Redis's address.
pub const REDIS_URL: Setting = Setting::new("REDIS_URL", "instead of `MESSAGING_URL`: `redis://host:6379`").secret();

/// RabbitMQ's address.
pub const RABBITMQ_URL: Setting =
    Setting::new("RABBITMQ_URL", "instead of `MESSAGING_URL`: `amqp://user:password@host:5672`").secret();

/// The settings that name a broker, of which one place says all.
const ADDRESSES: &[Setting] = &[MESSAGING_URL, MESSAGING_BROKER, KAFKA_BOOTSTRAP_SERVERS, REDIS_URL, RABBITMQ_URL];

/// After this long without the broker's answer a client is told that its request was not announced.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(15);

/// How long readiness waits for the broker.
const PING_DEADLINE: Duration = Duration::from_millis(1500);

/// How long handlers may go on once the process is told to stop.
const DRAIN_DEADLINE: Duration = Duration::from_secs(25);

/// How long closing may take once nothing is in flight.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// Reads which broker to use: `MESSAGING_URL`, or the address variable of one broker.
///
/// # Errors
/// None is set, several contradict each other, or one does not parse; the error names the variables.
pub fn config(environment: &Environment, source: &'static str) -> Result<MessagingConfig, StartError> {
    let config = MessagingConfig::from_variables(environment.any_of(ADDRESSES)?)?;
    let config = config.source(source).publish_deadline(PUBLISH_DEADLINE);
    #[cfg(feature = "otlp")]
    if environment.text(crate::telemetry::OTEL_EXPORTER_OTLP_ENDPOINT)?.is_some() {
        return Ok(config.trace_propagator(Arc::new(crate::telemetry::Propagator::default())));
    }
    Ok(config)
}

/// Connects to the broker.
///
/// # Errors
/// No backend of this program serves it, an option is wrong, or it cannot be reached.
pub fn connect(
    config: &MessagingConfig,
    backends: Vec<Box<dyn Backend>>,
) -> BoxFuture<'_, Result<Messaging, StartError>> {
    Box::pin(async move {
        let messaging = configure_messaging(config, backends).await?;
        tracing::info!(broker = %config.address(), "connected");
        Ok(messaging)
    })
}

/// Makes the topics that the settings file describes, where they are missing.
///
/// # Errors
/// One is there with another number of partitions, or asks for what the broker cannot do; the error names it.
pub fn declare<'a>(messaging: &'a Messaging, topics: &'a [TopicSettings]) -> BoxFuture<'a, Result<(), StartError>> {
    Box::pin(async move {
        let admin = messaging.admin();
        for TopicSettings { name, spec } in topics {
            let made = admin.ensure_topic(name, spec).await;
            made.map_err(|source| StartError::Topic { topic: name.clone(), source })?;
        }
        Ok(())
    })
}

/// Connects to the broker and [declares](declare) the topics, as soon as it is there; `None` if `stop` is cancelled before.
///
/// # Errors
/// Those of both that waiting does not mend.
pub fn connect_when_there<'a>(
    config: &'a MessagingConfig,
    backends: fn() -> Vec<Box<dyn Backend>>,
    topics: &'a [TopicSettings],
    stop: &'a CancellationToken,
) -> BoxFuture<'a, Result<Option<Messaging>, StartError>> {
    Box::pin(async move {
        let Some(messaging) = patiently(stop, || connect(config, backends())).await? else { return Ok(None) };
        match patiently(stop, || declare(&messaging, topics)).await {
            Ok(Some(())) => Ok(Some(messaging)),
            ended => {
                close(&messaging).await;
                ended.map(|_| None)
            }
        }
    })
}

/// Whether the broker of an outbox answers.
pub fn readiness(outbox: &Outbox) -> ReadinessCheck {
    let outbox = outbox.clone();
    ReadinessCheck::new("messaging", move || {
        let outbox = outbox.clone();
        async move {
            let ping = async { outbox.messaging()?.ping(PING_DEADLINE).await };
            ping.await.map_err(|error| {
                tracing::warn!(error = &error as &dyn std::error::Error, "the broker is not ready");
                "unavailable".to_owned()
            })
        }
    })
}

/// Closes the connection after what was published has its answer.
pub fn close(messaging: &Messaging) -> BoxFuture<'_, ()> {
    Box::pin(async {
        if let Err(error) = messaging.close(CLOSE_DEADLINE).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the broker's connection did not close cleanly");
        }
    })
}

/// Groups of consumers: watched for readiness, paused by operators, stopped gracefully.
#[derive(Debug, Clone, Default)]
pub struct Consumers {
    /// Nothing before they are joined and after they are left.
    joined: Arc<RwLock<Option<Joined>>>,
}

#[derive(Debug)]
struct Joined {
    messaging: Messaging,
    watched: Watched,
    running: Running,
}

impl Consumers {
    /// Joins the groups of these routers.
    ///
    /// # Errors
    /// A router asks for what the broker lacks, or a group cannot be joined.
    pub fn join<'a>(&'a self, messaging: &'a Messaging, routers: Vec<Router>) -> BoxFuture<'a, Result<(), StartError>> {
        Box::pin(async move {
            let watched = Watched::of(&routers);
            let running = messaging.run(routers).await?;
            *self.joined.write().await = Some(Joined { messaging: messaging.clone(), watched, running });
            Ok(())
        })
    }

    /// Whether all groups run and none needs attention.
    pub fn readiness(&self) -> ReadinessCheck {
        let joined = self.joined.clone();
        ReadinessCheck::new("consumers", move || {
            let joined = joined.clone();
            async move {
                let health = joined.read().await.as_ref().map(|joined| joined.running.health());
                match health {
                    Some(health) if health.is_good() => Ok(()),
                    Some(health) if health.stuck_partitions > 0 => {
                        Err(format!("{} partitions are stuck", health.stuck_partitions))
                    }
                    _ => Err("not running".to_owned()),
                }
            }
        })
    }

    /// The groups that run here, and whether each is paused.
    pub(crate) async fn groups(&self) -> Vec<(Name, bool)> {
        let joined = self.joined.read().await;
        let Some(Joined { watched, running, .. }) = &*joined else { return Vec::new() };
        let paused = running.paused();
        watched.groups().into_iter().map(|group| (group.clone(), paused.contains(&group))).collect()
    }

    /// Pauses a group in this process, or lets it go on; false if it does not run here.
    pub(crate) async fn set_paused(&self, group: &str, paused: bool) -> bool {
        match &*self.joined.read().await {
            Some(Joined { running, .. }) if paused => running.pause(group),
            Some(Joined { running, .. }) => running.resume(group),
            None => false,
        }
    }

    /// Consumes until `stop` is cancelled, then lets handlers finish and settles what they did. Meanwhile it keeps
    /// [`LAG`](crate::lag::LAG) up to date.
    ///
    /// # Errors
    /// A group ended by itself, or could not settle in time.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, Result<(), StartError>> {
        Box::pin(self.consume(stop))
    }

    async fn consume(self, stop: CancellationToken) -> Result<(), StartError> {
        let ended = async {
            match &*self.joined.read().await {
                Some(Joined { messaging, watched, running }) => tokio::select! {
                    ended = running.failed() => ended,
                    () = watched.watch(messaging) => Ok(()),
                },
                None => Ok(()),
            }
        };
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = ended => ended,
        };
        let joined = self.joined.write().await.take();
        let drained = match joined {
            Some(Joined { running, .. }) => running.shutdown(DRAIN_DEADLINE).await,
            None => Ok(()),
        };
        Ok(ended.and(drained)?)
    }
}
