//! The `messaging` command: looks at topics, groups and dead letters of any broker, publishes, and resolves dead letters.

mod cli;
mod connect;
mod doctor;
mod failure;
mod lag;
mod letters;
mod output;
mod place;
mod publish;
mod shown;
mod tail;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::{
    cli::{Cli, Command, Letters},
    failure::Failure,
    output::Output,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_if_asked();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::failed(format!("the runtime could not be started: {error}")).report(),
    };
    let result = runtime.block_on(run(cli));
    // A client's thread that is still busy with its own end need not be waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// What the clients log is shown if `RUST_LOG` asks for it; errors are told in any case.
fn log_if_asked() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let out = Output::new(cli.json);
    if let Command::Doctor(asked) = &cli.command {
        return doctor::run(cli.url.as_deref(), asked, &out).await;
    }
    let broker = connect::to_broker(cli.url.as_deref()).await?;
    let done = match &cli.command {
        Command::Tail(asked) => tail::run(&*broker, asked, &out).await,
        Command::Publish(asked) => publish::run(broker.clone(), asked, &out).await,
        Command::Lag(asked) => lag::run(&*broker, asked, &out).await,
        Command::DeadLetters(Letters::List(asked)) => letters::list(&*broker, asked, &out).await,
        Command::DeadLetters(Letters::Show(asked)) => letters::show(&*broker, asked, &out).await,
        Command::DeadLetters(Letters::Replay(asked)) => letters::replay(broker.clone(), asked, &out).await,
        Command::DeadLetters(Letters::Drop(asked)) => letters::drop(broker.clone(), asked, &out).await,
        Command::Doctor(_) => Ok(()),
    };
    let closed = broker.close(connect::CLOSE_DEADLINE).await;
    done.and(closed.map_err(Failure::from))
}
