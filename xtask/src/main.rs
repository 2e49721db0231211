//! The project's chores behind one command: `cargo xtask`.

mod bench;
mod brokers;
mod cargo;
mod chaos;
mod lint;
mod load;
mod package;
mod progress;
mod state;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Run every test there is, with real brokers; closes with `N passed, N failed`.
    Test(test::Arguments),
    /// Run real brokers in the background, for a person.
    #[command(subcommand)]
    Brokers(brokers::Action),
    /// Run benchmarks, optimised as shipped images are.
    Bench(bench::Arguments),
    /// Break things for long: kills at every point, freezes, a broker that goes away, members that churn.
    Chaos(chaos::Arguments),
    /// Place orders at a fixed rate while every process of the services is restarted.
    Load(load::Arguments),
    /// Package every library, and build a crate outside the workspace from the packages.
    Package(package::Arguments),
    /// Formatting, lints and documentation, each without a single warning.
    Lint,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Test(arguments) => test::run(&arguments),
        Chore::Brokers(action) => brokers::run(action),
        Chore::Bench(arguments) => bench::run(&arguments),
        Chore::Chaos(arguments) => chaos::run(&arguments),
        Chore::Load(arguments) => load::run(&arguments),
        Chore::Package(arguments) => package::run(&arguments),
        Chore::Lint => lint::run(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
