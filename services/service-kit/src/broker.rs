//! Connecting a service to the broker that its settings name.

use std::sync::Arc;
use std::time::Duration;

use messaging::{Backend, Messaging, MessagingConfig, Router, Running, configure_messaging};
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

use crate::BoxFuture;
use crate::http::ReadinessCheck;
use crate::lag::Watched;
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

/// Whether the broker answers.
pub fn readiness(messaging: &Messaging) -> ReadinessCheck {
    let messaging = messaging.clone();
    ReadinessCheck::new("messaging", move || {
        let messaging = messaging.clone();
        async move {
            messaging.ping(PING_DEADLINE).await.map_err(|error| {
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

/// Running groups of consumers: watched for readiness, stopped gracefully.
#[derive(Debug, Clone)]
pub struct Consumers {
    messaging: Messaging,
    watched: Watched,
    running: Arc<RwLock<Option<Running>>>,
}

impl Consumers {
    /// Joins the groups of these routers.
    ///
    /// # Errors
    /// A router asks for what the broker lacks, or a group cannot be joined.
    pub fn start(messaging: &Messaging, routers: Vec<Router>) -> BoxFuture<'_, Result<Self, StartError>> {
        Box::pin(async move {
            let watched = Watched::of(&routers);
            let running = messaging.run(routers).await?;
            Ok(Self { messaging: messaging.clone(), watched, running: Arc::new(RwLock::new(Some(running))) })
        })
    }

    /// Whether all groups run and none needs attention.
    pub fn readiness(&self) -> ReadinessCheck {
        let running = self.running.clone();
        ReadinessCheck::new("consumers", move || {
            let running = running.clone();
            async move {
                let health = running.read().await.as_ref().map(Running::health);
                match health {
                    Some(health) if health.is_good() => Ok(()),
                    Some(health) if health.stuck_partitions > 0 => {
                        Err(format!("{} partitions are stuck", health.stuck_partitions))
                    }
                    _ => Err("stopped".to_owned()),
                }
            }
        })
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
            match &*self.running.read().await {
                Some(running) => running.failed().await,
                None => Ok(()),
            }
        };
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = ended => ended,
            () = self.watched.clone().watch(self.messaging.clone()) => Ok(()),
        };
        let running = self.running.write().await.take();
        let drained = match running {
            Some(running) => running.shutdown(DRAIN_DEADLINE).await,
            None => Ok(()),
        };
        Ok(ended.and(drained)?)
    }
}
