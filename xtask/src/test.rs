//! `cargo xtask test`: every test of the workspace, with real brokers, and one line that sums them up.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use test_brokers::{Kind, Line, Summary, is_ci};

use crate::cargo::cargo;
use crate::progress::Steps;

/// The variable that tests with random choices take their seed from.
const SEED: &str = "MESSAGING_TEST_SEED";

/// Which tests to run, and how often.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Run only tests whose name contains this.
    filter: Option<String>,
    /// Run everything this often, each time with another seed in `MESSAGING_TEST_SEED`; a seed that is set is the first.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    repeat: u64,
    /// Only these packages, instead of the whole workspace.
    #[arg(long, short, value_name = "NAME")]
    package: Vec<String>,
    /// Options for the test programs, such as `-- --nocapture`.
    #[arg(last = true)]
    options: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let begin = Instant::now();
    let complete = ensure_brokers()?;
    println!("brokers: {}", seconds(begin.elapsed()));
    if !complete && is_ci() {
        println!("CI=true: a missing broker is a failure");
        println!("0 passed, 1 failed");
        return Ok(false);
    }

    let first = first_seed()?;
    let mut total = Count::default();
    let mut failed_seeds = Vec::new();
    for run in 0..arguments.repeat {
        let seed = first.wrapping_add(run);
        println!("run {} of {}, {SEED}={seed}", run + 1, arguments.repeat);
        let begin = Instant::now();
        let count = tests(arguments, seed)?;
        println!("run {}: {}, {count}", run + 1, seconds(begin.elapsed()));
        if count.failed > 0 {
            failed_seeds.push(seed.to_string());
        }
        total.add(count);
    }
    if !failed_seeds.is_empty() {
        println!("failed with {SEED}={}", failed_seeds.join(", "));
    }
    if total == Count::default() {
        println!("no test has such a name");
    }
    println!("{total}");
    Ok(total.failed == 0 && total.passed > 0)
}

/// Gets the programs of all brokers, so that no test's deadline has to pay for it; false if one is missing.
fn ensure_brokers() -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut steps = Steps::new();
    let mut lines = Vec::new();
    for kind in Kind::ALL {
        steps.begin(kind, "looking for its programs");
        let line = runtime.block_on(Line::gather(kind));
        steps.end(kind, line.error().is_none(), &line.to_string());
        lines.push(line);
    }
    Ok(Summary::of(lines).missing().is_empty())
}

fn first_seed() -> anyhow::Result<u64> {
    match std::env::var(SEED) {
        Ok(seed) if !seed.is_empty() => seed.parse().with_context(|| format!("{SEED} is {seed:?}, not a number")),
        // Small enough to be typed again.
        _ => Ok(fastrand::u64(..1_000_000_000)),
    }
}

/// One run over all test programs and documentation, its output passed on.
fn tests(arguments: &Arguments, seed: u64) -> anyhow::Result<Count> {
    let mut command = cargo(["test", "--no-fail-fast", "--all-features"]);
    if arguments.package.is_empty() {
        command.arg("--workspace");
    }
    for package in &arguments.package {
        command.args(["--package", package]);
    }
    command.args(&arguments.filter).arg("--").args(&arguments.options);
    command.env(SEED, seed.to_string()).stdout(Stdio::piped());
    let mut cargo = command.spawn().context("starting cargo")?;

    let mut count = Count::default();
    let output = cargo.stdout.take().context("cargo has no output")?;
    let mut shown = std::io::stdout().lock();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("reading what the tests print")?;
        shown.write_all(&line)?;
        shown.write_all(b"\n")?;
        if let Some(result) = Count::of_line(&String::from_utf8_lossy(&line)) {
            count.add(result);
        }
    }
    let status = cargo.wait().context("waiting for cargo")?;
    if !status.success() && count.failed == 0 {
        writeln!(shown, "cargo test ended with {status}: something did not compile, or a test program died")?;
        count.failed = 1;
    }
    Ok(count)
}

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// What a test program's last line says: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn of_line(line: &str) -> Option<Self> {
        let results = line.trim_start().strip_prefix("test result: ")?;
        let number = |what: &str| {
            let (before, _) = results.split_once(what)?;
            before.trim_end().rsplit(' ').next()?.parse().ok()
        };
        Some(Self { passed: number("passed;")?, failed: number("failed;")? })
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_lines_of_test_programs_are_counted() {
        let line =
            "test result: FAILED. 11 passed; 2 failed; 1 ignored; 0 measured; 26 filtered out; finished in 4.89s";
        assert_eq!(Count::of_line(line), Some(Count { passed: 11, failed: 2 }));
        let mimic = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(Count::of_line(mimic), Some(Count { passed: 3, failed: 0 }));
    }

    #[test]
    fn other_lines_are_not() {
        assert_eq!(Count::of_line("running 3 tests"), None);
        assert_eq!(Count::of_line("test says 3 passed; 1 failed; ... ok"), None);
    }

    #[test]
    fn the_closing_line_is_plain() {
        let mut total = Count { passed: 1, failed: 0 };
        total.add(Count { passed: 2, failed: 3 });
        assert_eq!(total.to_string(), "3 passed, 3 failed");
    }
}
