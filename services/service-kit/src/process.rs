//! The life of a service's process: set up, run until it is told to stop, drain, exit code.

use std::net::SocketAddr;
use std::process::ExitCode;

use messaging::ErrorKind;
use tokio_util::sync::CancellationToken;

use crate::BoxFuture;
use crate::database::DatabaseError;
use crate::settings::{Environment, SettingError};
use crate::telemetry;

/// Why a process could not start, or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is missing or wrong.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The database cannot be opened or migrated.
    #[error("database: {0}")]
    Database(#[from] DatabaseError),
    /// The broker cannot be chosen or reached, or a group of consumers ended.
    #[error("messaging: {0}")]
    Messaging(#[from] messaging::Error),
    /// The address to serve on is taken or not ours.
    #[error("LISTEN_ADDR: cannot listen on {address}: {source}")]
    Listen {
        /// Where the process was told to serve.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Anything else.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl StartError {
    /// Wraps an error that has no variant of its own.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

    /// 2 for what the operator can mend in the settings, 1 for everything else.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Setting(_) | Self::Listen { .. } => ExitCode::from(2),
            Self::Messaging(error) if matches!(error.kind(), ErrorKind::Config | ErrorKind::Unsupported) => {
                ExitCode::from(2)
            }
            _ => ExitCode::FAILURE,
        }
    }
}

/// Runs a service to its end and says how it went.
///
/// Starts logging and a runtime, then `service` with the environment and a token that is cancelled
/// on SIGTERM or Ctrl-C: from then on the service drains and returns. A second signal ends the
/// process at once.
pub fn run(service: fn(Environment, CancellationToken) -> BoxFuture<'static, Result<(), StartError>>) -> ExitCode {
    match try_run(service) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            error.exit_code()
        }
    }
}

/// An error's text and those of its causes, each said once.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn try_run(
    service: fn(Environment, CancellationToken) -> BoxFuture<'static, Result<(), StartError>>,
) -> Result<(), StartError> {
    let environment = Environment::process();
    telemetry::init_logs(&environment)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(StartError::other)?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signals(stop.clone()).map_err(StartError::other)?;
        service(environment, stop).await
    })
}

/// Cancels `stop` at the first signal; ends the process at the second.
fn stop_on_signals(stop: CancellationToken) -> std::io::Result<()> {
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        let name = signals.next().await;
        tracing::info!(signal = name, "stopping: draining what is in flight");
        stop.cancel();
        let name = signals.next().await;
        tracing::warn!(signal = name, "stopping at once");
        std::process::exit(130);
    });
    Ok(())
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "Ctrl-C",
            // Without a handler nothing will ever arrive, and an error is no wish to stop.
            Err(_) => std::future::pending().await,
        }
    }
}
