//! Logs and metrics of a process: installed once, by its `main`.

use std::io::IsTerminal;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::process::StartError;
use crate::settings::{Environment, SettingError};

/// Upper bounds in seconds: from a handler on the in-memory bus to a message that waited out a restart.
const BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// How often histogram samples move into their buckets when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts logging to standard output, filtered by `RUST_LOG`: `level` or `target=level`, with commas (`info` by
/// default).
///
/// # Errors
/// `RUST_LOG` does not parse.
pub fn init_logs(environment: &Environment) -> Result<(), StartError> {
    let directives = environment.text("RUST_LOG")?.unwrap_or_else(|| "info".to_owned());
    let filter: Targets = directives.parse().map_err(|error| {
        SettingError::new(
            "RUST_LOG",
            format_args!("expected such as `info,orders=debug`, found `{directives}`: {error}"),
        )
    })?;
    let lines = tracing_subscriber::fmt::layer().with_ansi(std::io::stdout().is_terminal());
    tracing_subscriber::registry().with(lines.with_filter(filter)).try_init().map_err(StartError::other)
}

/// Installs the process-wide metrics recorder and returns what `/metrics` shows.
///
/// # Errors
/// A recorder is installed already.
pub fn install_metrics() -> Result<PrometheusHandle, StartError> {
    let handle = builder()?.install_recorder().map_err(StartError::other)?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// A page for `/metrics` that no recorder writes to: for an app under test, of which there may be
/// many in one process.
pub fn detached_metrics() -> PrometheusHandle {
    PrometheusBuilder::new().build_recorder().handle()
}

fn builder() -> Result<PrometheusBuilder, StartError> {
    let histograms = Matcher::Suffix("_seconds".to_owned());
    PrometheusBuilder::new().set_buckets_for_metric(histograms, &BUCKETS).map_err(StartError::other)
}
