//! `cargo xtask load`: orders at a fixed rate while every process is restarted, as the figures in the docs are made.

use crate::cargo::{cargo, succeeds};

/// The columns of what the test prints for each broker.
const HEADER: &str = "\
| broker | load | accepted | failed | refused and sent elsewhere | restarts | not ordered | lost | twice \
| answer p50 ms | p99 | max | notified p50 ms | p99 | max |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|";

/// How much is asked, and on which broker.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// kafka, redis or rabbitmq; one after the other if none is named.
    #[arg(value_parser = ["kafka", "redis", "rabbitmq"])]
    broker: Option<String>,
    /// How long orders come in.
    #[arg(long, default_value_t = 120)]
    seconds: u32,
    /// Orders a second.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// How often each process is restarted.
    #[arg(long, default_value_t = 4)]
    rounds: u32,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let test = ["test", "--release", "--package", "rolling", "--test", "rolling"];
    // Built before the header, and before anything is measured.
    if !succeeds(cargo(test.into_iter().chain(["--no-run"])))? {
        return Ok(false);
    }
    println!("{HEADER}");
    let mut command = cargo(test);
    command.args(&arguments.broker).args(["--", "--nocapture"]);
    command.env("ROLLING_SECONDS", arguments.seconds.to_string());
    command.env("ROLLING_RATE", arguments.rate.to_string());
    command.env("ROLLING_ROUNDS", arguments.rounds.to_string());
    succeeds(command)
}
