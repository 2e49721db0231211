//! Putting the service together from its settings, and running it.

use messaging::MessagingConfig;
use messaging_backends::backends;
use service_kit::check::{self, Findings};
use service_kit::database::{self, DatabaseSettings};
use service_kit::http::{self, HttpSettings, Listeners, Operations, PrometheusHandle, ReadinessCheck};
use service_kit::outbox::{self, Outbox, Relay, RelaySettings};
use service_kit::patience::patiently;
use service_kit::process::Program;
use service_kit::settings::TopicSettings;
use service_kit::{BoxFuture, Environment, Setting, StartError, broker, telemetry};
use tokio_util::sync::CancellationToken;

use crate::api::api;
use crate::service::OrderService;
use crate::store::OrderStore;

/// Who makes the events.
const SOURCE: &str = "orders";

/// Every setting of the service.
pub const SETTINGS: &[Setting] = &[
    http::LISTEN_ADDR,
    http::ADMIN_LISTEN_ADDR,
    http::API_KEY,
    database::DATABASE_URL,
    database::CREATE_DATABASE,
    broker::MESSAGING_URL,
    broker::MESSAGING_BROKER,
    broker::KAFKA_BOOTSTRAP_SERVERS,
    broker::REDIS_URL,
    broker::RABBITMQ_URL,
    telemetry::RUST_LOG,
    telemetry::LOG_FORMAT,
    telemetry::OTEL_EXPORTER_OTLP_ENDPOINT,
];

/// `orders api`.
pub const API: Program = Program { name: "orders api", settings: SETTINGS, run: run_api, check: check_api };

/// What `orders api` needs to know.
#[derive(Debug)]
pub struct Settings {
    /// Where to serve, and to whom.
    pub http: HttpSettings,
    /// `DATABASE_URL` and `CREATE_DATABASE`
    pub database: DatabaseSettings,
    /// `MESSAGING_URL`, or the address variable of one broker
    pub messaging: MessagingConfig,
}

impl Settings {
    /// Reads all settings.
    ///
    /// # Errors
    /// One is missing or wrong; the error names it.
    pub fn from_environment(environment: &Environment) -> Result<Self, StartError> {
        Ok(Self {
            http: HttpSettings::from_environment(environment)?,
            database: DatabaseSettings::from_environment(environment, "postgres://user:password@host:5432/orders")?,
            messaging: broker::config(environment, SOURCE)?,
        })
    }
}

/// `orders api`: the HTTP API, and the relay that publishes what it records, in a process of their own.
///
/// # Errors
/// A setting is wrong, or what it names cannot be reached.
pub fn run_api(environment: Environment, stop: CancellationToken) -> BoxFuture<'static, Result<(), StartError>> {
    Box::pin(api_process(environment, stop))
}

fn check_api(environment: Environment) -> BoxFuture<'static, Result<Findings, StartError>> {
    Box::pin(async move {
        let settings = Settings::from_environment(&environment)?;
        let mut found = settings.http.describe();
        found.push(format!("database {:?}", settings.database.url));
        let (broker, _) = check::broker(&settings.messaging, backends(), environment.topics()).await?;
        found.extend(broker);
        Ok(found)
    })
}

async fn api_process(environment: Environment, stop: CancellationToken) -> Result<(), StartError> {
    let settings = Settings::from_environment(&environment)?;
    let metrics = telemetry::install_metrics()?;
    let listeners = settings.http.bind().await?;
    let store = OrderStore::open(&settings.database).await?;
    let outbox = outbox::open_without_broker(store.database(), &settings.messaging).await?;
    // Orders are taken with the broker or without. Whatever else it has against us ends the process.
    let both = stop.child_token();
    let serving = serve(OrderService::new(store.clone(), outbox.clone()), listeners, metrics, both.clone());
    let relaying = async {
        let relay = relay(&settings.messaging, environment.topics(), &outbox, &both).await;
        if relay.is_err() {
            both.cancel();
        }
        relay
    };
    let ((), relay) = tokio::join!(serving, relaying);
    let ended = match relay {
        Ok(Some(relay)) => {
            relay.drained().await;
            relay.stop().await;
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Ok(messaging) = outbox.messaging() {
        broker::close(messaging).await;
    }
    store.database().close().await;
    ended
}

/// Starts to publish what is recorded, as soon as the broker is there; `None` if `stop` is cancelled before.
async fn relay(
    config: &MessagingConfig,
    topics: &[TopicSettings],
    outbox: &Outbox,
    stop: &CancellationToken,
) -> Result<Option<Relay>, StartError> {
    let Some(messaging) = broker::connect_when_there(config, backends, topics, stop).await? else { return Ok(None) };
    outbox.attach(&messaging)?;
    patiently(stop, || Relay::start(outbox, RelaySettings::default())).await
}

/// Serves the API until `stop` is cancelled and what has begun is done. It is ready without the broker: orders are taken,
/// and announced when it is back.
pub fn serve(
    service: OrderService,
    listeners: impl Into<Listeners>,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> BoxFuture<'static, ()> {
    let checks =
        vec![ReadinessCheck::database(service.store().database()), broker::readiness(service.outbox()).advisory()];
    let operations = Operations { stop: stop.clone(), checks, metrics, consumers: None };
    listeners.into().serve(Some(api(service)), operations, stop)
}
