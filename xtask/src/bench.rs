//! `cargo xtask bench`: hands over to the benchmarks' own program.

use crate::cargo::{cargo, root, succeeds, target};

/// Benchmarks that need a broker or a database. Each is a feature of the benchmarks' program, so that the others stay
/// without its client.
const BROKERS: [&str; 4] = ["kafka", "rabbitmq", "redis", "outbox"];
const ALL: &str = "all";

/// Which benchmarks to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A benchmark's name and its options; none lists what there is.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    names: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let all = arguments.names.iter().any(|name| name == ALL);
    let is_broker = |name: &str| BROKERS.contains(&name);
    let brokers: Vec<&str> =
        BROKERS.into_iter().filter(|broker| all || arguments.names.iter().any(|name| name == broker)).collect();
    let mut others: Vec<&str> =
        arguments.names.iter().map(String::as_str).filter(|name| *name != ALL && !is_broker(name)).collect();
    if all && !others.contains(&"memory") {
        others.insert(0, "memory");
    }
    let in_process = !others.is_empty() || brokers.is_empty();
    Ok((!in_process || counted(&others)?) && (brokers.is_empty() || against_brokers(&brokers)?))
}

/// What counts instructions, with link-time optimisation.
fn counted(names: &[&str]) -> anyhow::Result<bool> {
    // All of its programs: the benchmarks call the one that counts allocations.
    if !succeeds(cargo(["build", "--profile", "dist", "--package", "benches"]))? {
        return Ok(false);
    }
    let mut command = cargo(["run", "--profile", "dist", "--package", "benches", "--bin", "benches", "--"]);
    command.args(names);
    Ok(succeeds(command)? && (!names.contains(&"memory") || peers()?))
}

/// Other libraries, by the same measure. They are no part of the workspace, and may need a newer Rust.
fn peers() -> anyhow::Result<bool> {
    let folder = root().join("benches/peers");
    let peers = |action: &str| {
        let mut command = cargo([action, "--locked", "--profile", "dist"]);
        command.current_dir(&folder).env("CARGO_TARGET_DIR", target());
        command
    };
    Ok(succeeds(peers("build"))? && succeeds(peers("run"))?)
}

/// What is measured against a broker: both sides are built alike, as `--release` builds them.
fn against_brokers(names: &[&str]) -> anyhow::Result<bool> {
    let features = names.join(",");
    let mut command = cargo(["run", "--release", "--package", "benches", "--bin", "benches", "--features", &features]);
    command.arg("--").args(names);
    succeeds(command)
}
