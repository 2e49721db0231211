//! Putting the service together from its settings, and running its two processes.

use std::net::SocketAddr;
use std::sync::Arc;

use messaging::{IntoRouter, Router};
use messaging_backends::backends;
use service_kit::broker::{self, Consumers};
use service_kit::database::DatabaseSettings;
use service_kit::http::{self, Operations, PrometheusHandle, ReadinessCheck};
use service_kit::outbox::{self, Outbox, Relay, RelaySettings};
use service_kit::{BoxFuture, Environment, StartError, telemetry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::api;
use crate::handlers::{NotificationMailer, OrderNotifications, on_bare_order_created};
use crate::mailer::{self, Mailer};
use crate::store::NotificationStore;

/// Who makes the events.
const SOURCE: &str = "notifications";

/// How many events of a group a process handles at once.
const CONCURRENCY: usize = 50;

/// What both processes of the service need to know.
#[derive(Debug)]
pub struct Settings {
    /// `LISTEN_ADDR`
    pub listen: SocketAddr,
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
            listen: environment.listen_addr()?,
            database: DatabaseSettings::from_environment(environment, EXAMPLE)?,
        })
    }
}

/// `notifications api`: the HTTP API in a process of its own. It needs no broker.
///
/// # Errors
/// A setting is wrong, or what it names cannot be reached.
pub fn run_api(environment: Environment, stop: CancellationToken) -> BoxFuture<'static, Result<(), StartError>> {
    Box::pin(api_process(environment, stop))
}

async fn api_process(environment: Environment, stop: CancellationToken) -> Result<(), StartError> {
    let settings = Settings::from_environment(&environment)?;
    let metrics = telemetry::install_metrics()?;
    let listener = http::bind(settings.listen).await?;
    let store = NotificationStore::open(&settings.database).await?;
    serve(store.clone(), listener, metrics, stop).await;
    store.database().close().await;
    Ok(())
}

/// Serves the API until `stop` is cancelled and what has begun is done.
pub fn serve(
    store: NotificationStore,
    listener: TcpListener,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> BoxFuture<'static, ()> {
    let checks = vec![ReadinessCheck::database(store.database())];
    let operations = Operations { stop: stop.clone(), checks, metrics };
    http::serve(listener, http::app(Some(api(store)), operations), stop)
}

/// `notifications consumer`: all handlers, and the relay that publishes what they record, in a process of its own, of
/// which there may be any number. It serves health and metrics.
///
/// # Errors
/// A setting is wrong, what it names cannot be reached, or a group of consumers ended by itself.
pub fn run_consumer(environment: Environment, stop: CancellationToken) -> BoxFuture<'static, Result<(), StartError>> {
    Box::pin(consumer_process(environment, stop))
}

async fn consumer_process(environment: Environment, stop: CancellationToken) -> Result<(), StartError> {
    let settings = Settings::from_environment(&environment)?;
    let messaging = broker::config(&environment, SOURCE)?;
    let mailer = mailer::from_environment(&environment)?;
    let metrics = telemetry::install_metrics()?;
    let listener = http::bind(settings.listen).await?;
    let store = NotificationStore::open(&settings.database).await?;
    let messaging = broker::connect(&messaging, backends()).await?;

    let outbox = outbox::open(store.database(), &messaging).await?;
    let consumers = Consumers::start(&messaging, consumers(&store, &outbox, mailer)).await?;
    // After the groups, so that requests for e-mail have somebody to go to.
    let relay = Relay::start(&outbox, RelaySettings::default()).await?;
    let checks = vec![ReadinessCheck::database(store.database()), broker::readiness(&messaging), consumers.readiness()];
    let app = http::app(None, Operations { stop: stop.clone(), checks, metrics });
    // If the consumers end, so does the process: whoever started it will start it again.
    let both = stop.child_token();
    let guard = both.clone().drop_guard();
    let consuming = async {
        let _ends_the_server = guard;
        consumers.run(both.clone()).await
    };
    let (consumed, ()) = tokio::join!(consuming, http::serve(listener, app, both.clone()));

    relay.drained().await;
    relay.stop().await;
    broker::close(&messaging).await;
    store.database().close().await;
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
