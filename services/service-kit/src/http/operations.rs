//! What an operator asks of a process: is it alive, is it ready, what does it count.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::broker::Consumers;
use crate::database::Database;

/// The longest that a readiness check may take; orchestrators give up after a second or a few.
const CHECK_DEADLINE: Duration = Duration::from_secs(2);

/// Something without which requests or events cannot be handled.
#[derive(Clone)]
pub struct ReadinessCheck {
    name: &'static str,
    advisory: bool,
    check: Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
}

impl ReadinessCheck {
    /// A check under this name; its error is shown to whoever asks and must hold no secret.
    pub fn new<F>(name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self { name, advisory: false, check: Arc::new(move || Box::pin(check())) }
    }

    /// The same check, shown and not decisive: the process does its work without it, if later.
    pub fn advisory(self) -> Self {
        Self { advisory: true, ..self }
    }

    /// Whether the database answers.
    pub fn database(database: &Database) -> Self {
        let database = database.clone();
        Self::new("database", move || {
            let database = database.clone();
            async move {
                database.ping().await.map_err(|error| {
                    tracing::warn!(%error, "database is not ready");
                    "unavailable".to_owned()
                })
            }
        })
    }
}

impl fmt::Debug for ReadinessCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadinessCheck").field(&self.name).finish()
    }
}

/// Health and metrics of one process.
#[derive(Clone)]
pub struct Operations {
    /// Cancelled when the process begins to drain: it is alive then, but no longer ready.
    pub stop: CancellationToken,
    /// All but the advisory ones must pass for the process to be ready.
    pub checks: Vec<ReadinessCheck>,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
    /// What operators can pause, on a port of their own.
    pub consumers: Option<Consumers>,
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations").field("checks", &self.checks).finish_non_exhaustive()
    }
}

/// `/health/live`, and `/health/ready` with what each check found.
pub(super) fn health(operations: Operations) -> Router {
    Router::new().route("/health/live", get(live)).route("/health/ready", get(ready)).with_state(operations)
}

/// `/health/live`, and `/health/ready` without saying why.
pub(super) fn verdicts(operations: Operations) -> Router {
    Router::new().route("/health/live", get(live)).route("/health/ready", get(ready_or_not)).with_state(operations)
}

/// `/metrics`
pub(super) fn details(operations: Operations) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(operations)
}

async fn live() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

async fn ready(State(operations): State<Operations>) -> Response {
    let (code, status, checks) = examine(&operations).await;
    (code, Json(json!({"status": status, "checks": checks}))).into_response()
}

async fn ready_or_not(State(operations): State<Operations>) -> Response {
    let (code, status, _) = examine(&operations).await;
    (code, Json(json!({"status": status}))).into_response()
}

async fn examine(operations: &Operations) -> (StatusCode, &'static str, Map<String, Value>) {
    let results = futures::future::join_all(operations.checks.iter().map(run)).await;
    let passed = results.iter().zip(&operations.checks).all(|((_, result), check)| result.is_ok() || check.advisory);
    let checks: Map<String, Value> = results
        .into_iter()
        .map(|(name, result)| (name.to_owned(), result.err().unwrap_or_else(|| "ok".to_owned()).into()))
        .collect();
    let (code, status) = match (operations.stop.is_cancelled(), passed) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        (false, true) => (StatusCode::OK, "ready"),
    };
    (code, status, checks)
}

async fn run(check: &ReadinessCheck) -> (&'static str, Result<(), String>) {
    let result = tokio::time::timeout(CHECK_DEADLINE, (check.check)())
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", CHECK_DEADLINE.as_secs())));
    (check.name, result)
}

async fn metrics(State(operations): State<Operations>) -> Response {
    let text = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (text, operations.metrics.render()).into_response()
}
