//! The `notifications` program.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use notifications::startup;
use service_kit::process::{self, Invocation};
use service_kit::settings;

/// The notifications service
#[derive(Parser)]
#[command(version, after_help = settings::help(startup::SETTINGS))]
struct Cli {
    /// The settings file; the environment wins over it [default: what SETTINGS_FILE names]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Tell what would be done with these settings, and end
    #[arg(long, global = true)]
    check_config: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the HTTP API
    Api,
    /// Handle events: store notifications and send their e-mail
    Consumer,
}

fn main() -> ExitCode {
    let Cli { config, check_config, command } = Cli::parse();
    let program = match command {
        Command::Api => startup::API,
        Command::Consumer => startup::CONSUMER,
    };
    process::run(&program, &Invocation { settings_file: config, check: check_config })
}
