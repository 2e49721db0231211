//! The `orders` program.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The orders service
///
/// Settings come from the environment:
///   LISTEN_ADDR      where to serve HTTP, health and metrics [default: 0.0.0.0:8000]
///   DATABASE_URL     sqlite:orders.db or postgres://user:password@host:5432/orders
///   CREATE_DATABASE  true creates a PostgreSQL database that does not exist [default: false]
///   MESSAGING_URL    memory:, kafka://…, redis://… or amqp://…
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
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Api => service_kit::process::run(orders::startup::run_api),
    }
}
