//! Putting the service together from its settings, and running its two processes.

use std::sync::Arc;

use messaging::{IntoRouter, Messaging, MessagingConfig, Router};
use messaging_backends::backends;
use service_kit::broker::{self, Consumers};
use service_kit::check::{self, Findings};
use service_kit::database::{self, DatabaseSettings};
use service_kit::http::{self, HttpSettings, Listeners, Operations, PrometheusHandle, ReadinessCheck};
use service_kit::outbox::{self, Outbox, Relay, RelaySettings};
use service_kit::patience::patiently;
use service_kit::process::Program;
use service_kit::settings::TopicSettings;
use service_kit::{BoxFuture, Environment, Setting, StartError, telemetry};
use tokio_util::sync::CancellationToken;

use crate::api::api;
use crate::handlers::{NotificationMailer, OrderNotifications, on_bare_order_created};
use crate::mailer::{self, Mailer};
use crate::store::NotificationStore;

/// Who makes the events.
const SOURCE: &str = "notifications";

/// How many events of a group a process handles at once.
const CONCURRENCY: usize = 50;

/// Every setting of the service, of both processes.
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
    mailer::SMTP_URL,
    mailer::MAIL_DIR,
    mailer::MAIL_FROM,
    telemetry::RUST_LOG,
    telemetry::LOG_FORMAT,
    telemetry::OTEL_EXPORTER_OTLP_ENDPOINT,
];

/// `notifications api`.
pub const API: Program = Program { name: "notifications api", settings: SETTINGS, run: run_api, check: check_api };

/// `notifications consumer`.
pub const CONSUMER: Program =
    Program { name: "notifications consumer", settings: SETTINGS, run: run_consumer, check: check_consumer };

/// What both processes of the service need to know.
#[derive(Debug)]
pub struct Settings {
    /// Where to serve, and to whom.
    pub http: HttpSettings,
    /// `DATABASE_URL` and `CREATE_DATABASE`
    pub database: DatabaseSettings,
}

impl Settings {
    /// Reads all settings.
    ///
    /// # Errors
    /// One is missing or wrong; the error names it.
    pub fn from_environment(environment: &Environment) -> Result<Self, StartError> {
        const EXAMPLE: &str = "postgres://user:password@host:5432/notifications";
        Ok(Self {
            http: HttpSettings::from_environment(environment)?,
            database: DatabaseSettings::from_environment(environment, EXAMPLE)?,
        })
    }

    fn describe(&self) -> Findings {
        let mut found = self.http.describe();
        found.push(format!("database {:?}", self.database.url));
        found
    }
}

/// `notifications api`: the HTTP API in a process of its own. It needs no broker.
///
/// # Errors
/// A setting is wrong, or what it names cannot be reached.
pub fn run_api(environment: Environment, stop: CancellationToken) -> BoxFuture<'static, Result<(), StartError>> {
    Box::pin(api_process(environment, stop))
}

fn check_api(environment: Environment) -> BoxFuture<'static, Result<Findings, StartError>> {
    Box::pin(async move { Ok(Settings::from_environment(&environment)?.describe()) })
}

async fn api_process(environment: Environment, stop: CancellationToken) -> Result<(), StartError> {
    let settings = Settings::from_environment(&environment)?;
    let metrics = telemetry::install_metrics()?;
    let listeners = settings.http.bind().await?;
    let store = NotificationStore::open(&settings.database).await?;
    serve(store.clone(), listeners, metrics, stop).await;
    store.database().close().await;
    Ok(())
}

/// Serves the API until `stop` is cancelled and what has begun is done.
pub fn serve(
    store: NotificationStore,
    listeners: impl Into<Listeners>,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> BoxFuture<'static, ()> {
    let checks = vec![ReadinessCheck::database(store.database())];
    let operations = Operations { stop: stop.clone(), checks, metrics, consumers: None };
    listeners.into().serve(Some(api(store)), operations, stop)
}

/// `notifications consumer`: all handlers, and the relay that publishes what they record, in a process of its own, of
/// which there may be any number. It serves health and metrics.
///
/// # Errors
/// A setting is wrong, what it names cannot be reached, or a group of consumers ended by itself.
pub fn run_consumer(environment: Environment, stop: CancellationToken) -> BoxFuture<'static, Result<(), StartError>> {
    Box::pin(consumer_process(environment, stop))
}

fn check_consumer(environment: Environment) -> BoxFuture<'static, Result<Findings, StartError>> {
    Box::pin(async move {
        let mut found = Settings::from_environment(&environment)?.describe();
        let messaging = broker::config(&environment, SOURCE)?;
        let mailer = mailer::from_environment(&environment)?;
        found.push(format!("e-mail by {mailer:?}"));
        let (broker, messaging) = check::broker(&messaging, backends(), environment.topics()).await?;
        found.extend(broker);
        if let Some(messaging) = messaging {
            found.extend(check_groups(&messaging, mailer).await?);
        }
        Ok(found)
    })
}

/// The groups as they would run, over a database of the moment: the real one is not touched.
#[cfg(feature = "sqlite")]
async fn check_groups(messaging: &Messaging, mailer: Arc<dyn Mailer>) -> Result<Findings, StartError> {
    let url = "sqlite::memory:".parse().map_err(StartError::other)?;
    let store = NotificationStore::open(&DatabaseSettings { url, create: true }).await?;
    let outbox = outbox::open(store.database(), messaging).await?;
    check::groups(messaging, consumers(&store, &outbox, mailer))
}

#[cfg(not(feature = "sqlite"))]
async fn check_groups(_: &Messaging, _: Arc<dyn Mailer>) -> Result<Findings, StartError> {
    Ok(vec!["what groups require is not checked: this program is built without the feature `sqlite`".to_owned()])
}

async fn consumer_process(environment: Environment, stop: CancellationToken) -> Result<(), StartError> {
    let settings = Settings::from_environment(&environment)?;
    let config = broker::config(&environment, SOURCE)?;
    let mailer = mailer::from_environment(&environment)?;
    let metrics = telemetry::install_metrics()?;
    let listeners = settings.http.bind().await?;
    let store = NotificationStore::open(&settings.database).await?;
    let outbox = outbox::open_without_broker(store.database(), &config).await?;
    let consumers = Consumers::default();
    let checks = vec![ReadinessCheck::database(store.database()), broker::readiness(&outbox), consumers.readiness()];
    let operations = Operations { stop: stop.clone(), checks, metrics, consumers: Some(consumers.clone()) };
    // If the consumers end, so does the process: whoever started it will start it again.
    let both = stop.child_token();
    let guard = both.clone().drop_guard();
    let routers = || self::consumers(&store, &outbox, mailer.clone());
    let working = async {
        let _ends_the_server = guard;
        work(&config, environment.topics(), &outbox, consumers, &routers, &both).await
    };
    let (worked, ()) = tokio::join!(working, listeners.serve(None, operations, both.clone()));
    if let Ok(messaging) = outbox.messaging() {
        broker::close(messaging).await;
    }
    store.database().close().await;
    worked
}

/// Consumes, and publishes what handlers record, from when the broker is there until `stop` is cancelled.
async fn work(
    config: &MessagingConfig,
    topics: &[TopicSettings],
    outbox: &Outbox,
    consumers: Consumers,
    routers: &(dyn Fn() -> Vec<Router> + Sync),
    stop: &CancellationToken,
) -> Result<(), StartError> {
    let Some(messaging) = broker::connect_when_there(config, backends, topics, stop).await? else { return Ok(()) };
    outbox.attach(&messaging)?;
    if patiently(stop, || consumers.join(&messaging, routers())).await?.is_none() {
        return Ok(());
    }
    // After the groups, so that requests for e-mail have somebody to go to.
    let relay = patiently(stop, || Relay::start(outbox, RelaySettings::default())).await?;
    let consumed = consumers.run(stop.clone()).await;
    if let Some(relay) = relay {
        relay.drained().await;
        relay.stop().await;
    }
    consumed
}

/// Every handler of the service, in its groups.
pub fn consumers(store: &NotificationStore, outbox: &Outbox, mailer: Arc<dyn Mailer>) -> Vec<Router> {
    let service = OrderNotifications::new(store.clone(), outbox.clone());
    let bare = on_bare_order_created::router().with_state(service.clone());
    let service = service.into_router();
    let mailer = NotificationMailer::new(store.clone(), mailer).into_router();
    [service, bare, mailer].map(|router| router.concurrency(CONCURRENCY)).into()
}
