//! Logs, traces and metrics of a process: installed once, by its `main`.

mod lines;
#[cfg(feature = "otlp")]
mod traces;

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use self::lines::Wanted;
use crate::BoxFuture;
use crate::process::StartError;
use crate::settings::{Environment, Setting, SettingError};

#[cfg(feature = "otlp")]
pub use traces::Propagator;

/// What to log.
pub const RUST_LOG: Setting =
    Setting::new("RUST_LOG", "what to log: `level` or `target=level`, with commas").default("info");

/// How to log.
pub const LOG_FORMAT: Setting = Setting::new("LOG_FORMAT", "`text` for people, `json` for programs: a line each")
    .default("text")
    .expected("text or json");

/// Where traces go.
pub const OTEL_EXPORTER_OTLP_ENDPOINT: Setting = Setting::new(
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "a collector of traces that speaks OTLP over HTTP, such as `http://collector:4318`; without it none are made",
)
.secret();

/// Upper bounds in seconds: from a handler on the in-memory bus to a message that waited out a restart.
const BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// How often histogram samples move into their buckets when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

#[derive(Clone, Copy)]
enum LogFormat {
    Text,
    Json,
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

/// What is to be written out before the process ends.
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    traces: Option<traces::Exporting>,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Sends what was traced and is not with the collector yet, for a few seconds at most.
    pub fn flush(self) -> BoxFuture<'static, ()> {
        Box::pin(async {
            #[cfg(feature = "otlp")]
            if let Some(traces) = self.traces {
                traces.flush().await;
            }
        })
    }
}

/// Starts logging to standard output, as `RUST_LOG` and `LOG_FORMAT` say, and tracing to a collector, if
/// `OTEL_EXPORTER_OTLP_ENDPOINT` names one. `name` is what the process is called in traces.
///
/// # Errors
/// One of them is wrong.
pub fn start(environment: &Environment, name: &'static str) -> Result<Telemetry, StartError> {
    let (filter, format) = logging(environment)?;
    let lines = match format {
        LogFormat::Text => tracing_subscriber::fmt::layer().with_ansi(std::io::stdout().is_terminal()).boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer().json().boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(Wanted(filter)));
    #[cfg(feature = "otlp")]
    {
        let traces = traces::Exporting::start(environment, name)?;
        let layer = traces.as_ref().map(traces::Exporting::layer);
        subscriber.with(layer).try_init().map_err(StartError::other)?;
        Ok(Telemetry { traces })
    }
    #[cfg(not(feature = "otlp"))]
    {
        let _ = name;
        without_traces(environment)?;
        subscriber.try_init().map_err(StartError::other)?;
        Ok(Telemetry {})
    }
}

/// Reads the settings of logs and traces, and starts nothing.
///
/// # Errors
/// As [`start`].
pub fn check(environment: &Environment) -> Result<(), SettingError> {
    logging(environment)?;
    #[cfg(feature = "otlp")]
    traces::endpoint(environment)?;
    #[cfg(not(feature = "otlp"))]
    without_traces(environment)?;
    Ok(())
}

fn logging(environment: &Environment) -> Result<(Targets, LogFormat), SettingError> {
    let directives = environment.text(RUST_LOG)?.or(RUST_LOG.default_text().map(str::to_owned)).unwrap_or_default();
    let filter = directives.parse().map_err(|error| {
        RUST_LOG.error(format_args!("expected such as `info,orders=debug`, found `{directives}`: {error}"))
    })?;
    Ok((filter, environment.parsed(LOG_FORMAT)?))
}

/// Refuses to drop traces in silence.
#[cfg(not(feature = "otlp"))]
fn without_traces(environment: &Environment) -> Result<(), SettingError> {
    match environment.text(OTEL_EXPORTER_OTLP_ENDPOINT)? {
        Some(_) => Err(OTEL_EXPORTER_OTLP_ENDPOINT.error("this program is built without the feature `otlp`")),
        None => Ok(()),
    }
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
