//! `cargo xtask bench`: hands over to the benchmarks' own program.

use crate::cargo::{cargo, succeeds};

/// Which benchmarks to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A benchmark's name and its options; none lists what there is.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    names: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    // All of its programs: the benchmarks call the one that counts allocations.
    if !succeeds(cargo(["build", "--profile", "dist", "--package", "benches"]))? {
        return Ok(false);
    }
    let mut command = cargo(["run", "--profile", "dist", "--package", "benches", "--bin", "benches", "--"]);
    command.args(&arguments.names);
    succeeds(command)
}
