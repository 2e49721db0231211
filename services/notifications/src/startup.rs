//! Putting the service together from its settings, and running it.

use std::net::SocketAddr;

use service_kit::database::DatabaseSettings;
use service_kit::http::{self, Operations, PrometheusHandle, ReadinessCheck};
use service_kit::{Environment, SettingError, StartError, telemetry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::api;
use crate::store::NotificationStore;

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
    pub fn from_environment(environment: &Environment) -> Result<Self, SettingError> {
        const EXAMPLE: &str = "postgres://user:password@host:5432/notifications";
        Ok(Self {
            listen: environment.listen_addr()?,
            database: DatabaseSettings::from_environment(environment, EXAMPLE)?,
        })
    }
}

/// `notifications api`: the HTTP API in a process of its own.
///
/// # Errors
/// A setting is wrong, or what it names cannot be reached.
pub async fn run_api(environment: Environment, stop: CancellationToken) -> Result<(), StartError> {
    let settings = Settings::from_environment(&environment)?;
    let metrics = telemetry::install_metrics()?;
    let listener = http::bind(settings.listen).await?;
    let store = NotificationStore::open(&settings.database).await?;
    serve(store, listener, metrics, stop).await;
    Ok(())
}

/// Serves the API until `stop` is cancelled and what has begun is done; closes the database then.
pub async fn serve(
    store: NotificationStore,
    listener: TcpListener,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) {
    let database = store.database().clone();
    let operations = Operations { stop: stop.clone(), checks: vec![ReadinessCheck::database(&database)], metrics };
    http::serve(listener, http::app(Some(api(store)), operations), stop).await;
    database.close().await;
}
