//! The `shop` program: orders and notifications in one process, on the in-memory bus and SQLite. Nothing to install.

mod settings;
mod startup;

use std::process::ExitCode;

use service_kit::process::{self, Invocation};

fn main() -> ExitCode {
    match invocation(std::env::args().skip(1)) {
        Some(invocation) => process::run(&startup::SHOP, &invocation),
        None => {
            eprintln!(
                "usage: shop [--config FILE] [--check-config]\n\n{}",
                service_kit::settings::help(settings::SETTINGS)
            );
            ExitCode::from(2)
        }
    }
}

/// What stood on the command line; a parser of such would be the largest part of this program.
fn invocation(mut arguments: impl Iterator<Item = String>) -> Option<Invocation> {
    let mut invocation = Invocation::default();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--check-config" => invocation.check = true,
            "--config" => invocation.settings_file = Some(arguments.next()?.into()),
            _ => return None,
        }
    }
    Some(invocation)
}
