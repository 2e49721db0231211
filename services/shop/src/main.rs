//! The `shop` program: orders and notifications in one process, on the in-memory bus and SQLite. Nothing to install.

mod settings;
mod startup;

use std::process::ExitCode;

fn main() -> ExitCode {
    service_kit::process::run(startup::run)
}
