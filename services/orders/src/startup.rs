//! Putting the service together from its settings, and running it.

use std::net::SocketAddr;

use messaging::MessagingConfig;
use messaging_backends::backends;
use service_kit::database::DatabaseSettings;
use service_kit::http::{self, Operations, PrometheusHandle, ReadinessCheck};
use service_kit::outbox::{self, Relay, RelaySettings};
use service_kit::{BoxFuture, Environment, StartError, broker, telemetry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::api;
use crate::service::OrderService;
use crate::store::OrderStore;

/// Who makes the events.
const SOURCE: &str = "orders";

/// What `orders api` needs to know.
#[derive(Debug)]
pub struct Settings {
    /// `LISTEN_ADDR`
    pub listen: SocketAddr,
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
            listen: environment.listen_addr()?,
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

async fn api_process(environment: Environment, stop: CancellationToken) -> Result<(), StartError> {
    let settings = Settings::from_environment(&environment)?;
    let metrics = telemetry::install_metrics()?;
    let listener = http::bind(settings.listen).await?;
    let store = OrderStore::open(&settings.database).await?;
    let messaging = broker::connect(&settings.messaging, backends()).await?;
    let outbox = outbox::open(store.database(), &messaging).await?;
    let relay = Relay::start(&outbox, RelaySettings::default()).await?;
    serve(OrderService::new(store.clone(), outbox), listener, metrics, stop).await;
    relay.drained().await;
    relay.stop().await;
    broker::close(&messaging).await;
    store.database().close().await;
    Ok(())
}

/// Serves the API until `stop` is cancelled and what has begun is done. It is ready without the broker: orders are taken,
/// and announced when it is back.
pub fn serve(
    service: OrderService,
    listener: TcpListener,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> BoxFuture<'static, ()> {
    let checks = vec![
        ReadinessCheck::database(service.store().database()),
        broker::readiness(service.outbox().messaging()).advisory(),
    ];
    let operations = Operations { stop: stop.clone(), checks, metrics };
    http::serve(listener, http::app(Some(api(service)), operations), stop)
}
