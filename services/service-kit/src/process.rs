//! The life of a service's process: set up, run until it is told to stop, drain, exit code.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use messaging::ErrorKind;
use tokio_util::sync::CancellationToken;

use crate::BoxFuture;
use crate::check::{self, Findings};
use crate::database::DatabaseError;
use crate::settings::{Environment, Setting, SettingError};
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
    /// A topic is not as the settings file describes it, and cannot be made so.
    #[error("topics.{topic}: {source}")]
    Topic {
        /// The topic's name.
        topic: String,
        /// What the broker's backend said.
        source: messaging::Error,
    },
    /// The address to serve on is taken or not ours.
    #[error("{setting}: cannot listen on {address}: {source}")]
    Listen {
        /// The setting that names the address.
        setting: &'static str,
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
            Self::Messaging(error) | Self::Topic { source: error, .. }
                if matches!(error.kind(), ErrorKind::Config | ErrorKind::Unsupported) =>
            {
                ExitCode::from(2)
            }
            _ => ExitCode::FAILURE,
        }
    }
}

/// One process of a service: what it is called, what it reads and what it does.
#[derive(Debug)]
pub struct Program {
    /// What it is called in words: the service, and which process of it.
    pub name: &'static str,
    /// The settings of the service: what a settings file may hold.
    pub settings: &'static [Setting],
    /// Serves until the token is cancelled.
    pub run: fn(Environment, CancellationToken) -> BoxFuture<'static, Result<(), StartError>>,
    /// Reads all settings and tells what would be done with them, without doing it.
    pub check: fn(Environment) -> BoxFuture<'static, Result<Findings, StartError>>,
}

/// What stood on the command line.
#[derive(Debug, Default)]
pub struct Invocation {
    /// `--config`: the settings file.
    pub settings_file: Option<PathBuf>,
    /// `--check-config`: tell what would be done, and end.
    pub check: bool,
}

/// Runs a program to its end and says how it went.
///
/// Starts logging and a runtime, then the program with its environment and a token that is cancelled
/// on SIGTERM or Ctrl-C: from then on it drains and returns. A second signal ends the
/// process at once.
pub fn run(program: &Program, invocation: &Invocation) -> ExitCode {
    match try_run(program, invocation) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            error.exit_code()
        }
    }
}

/// An error's text and those of its causes, each said once.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
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

fn try_run(program: &Program, invocation: &Invocation) -> Result<(), StartError> {
    let environment = Environment::process().with_file(invocation.settings_file.as_deref(), program.settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(StartError::other)?;
    let ended = runtime.block_on(async {
        if invocation.check {
            return tell(program, environment).await;
        }
        let telemetry = telemetry::start(&environment, program.name)?;
        let stop = CancellationToken::new();
        stop_on_signals(stop.clone()).map_err(StartError::other)?;
        let ended = (program.run)(environment, stop).await;
        telemetry.flush().await;
        ended
    });
    // A thread on which a client still asks for a broker that is away need not be waited for.
    runtime.shutdown_background();
    ended
}

/// Prints what a program would do with its settings.
async fn tell(program: &Program, environment: Environment) -> Result<(), StartError> {
    telemetry::check(&environment)?;
    println!("settings of {}:", program.name);
    for line in check::settings(&environment, program.settings)? {
        println!("  {line}");
    }
    let found = (program.check)(environment).await?;
    println!("{} would start with:", program.name);
    for line in found {
        println!("  {line}");
    }
    Ok(())
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
