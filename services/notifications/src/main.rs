//! The `notifications` program.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The notifications service
///
/// Settings come from the environment:
///   LISTEN_ADDR      where to serve HTTP, health and metrics [default: 0.0.0.0:8000]
///   DATABASE_URL     sqlite:notifications.db or postgres://user:password@host:5432/notifications
///   CREATE_DATABASE  true creates a PostgreSQL database that does not exist [default: false]
///   MESSAGING_URL    consumer only: memory:, kafka://…, redis://… or amqp://…
///   SMTP_URL         consumer only: smtp://host:port, or smtps://user:password@host:port [default: none, e-mail goes to the log]
///   MAIL_DIR         consumer only, without SMTP_URL: a folder for e-mail, as .eml files
///   MAIL_FROM        consumer only: the sender [default: Notifications <notifications@localhost>]
///   RUST_LOG         what to log [default: info]
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Cli {
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
    match Cli::parse().command {
        Command::Api => service_kit::process::run(notifications::startup::run_api),
        Command::Consumer => service_kit::process::run(notifications::startup::run_consumer),
    }
}
