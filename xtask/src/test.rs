//! `cargo xtask test`: every test of the workspace, with real brokers, and one line that sums them up.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use test_brokers::{Kind, Line, Summary, is_ci};

use crate::cargo::cargo;
use crate::progress::Steps;

mod outcome;
mod programs;

use outcome::Outcome;
use programs::Program;

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
    let mut total = Outcome::default();
    let mut failed_seeds = Vec::new();
    for run in 0..arguments.repeat {
        let seed = first.wrapping_add(run);
        println!("run {} of {}, {SEED}={seed}", run + 1, arguments.repeat);
        let begin = Instant::now();
        let outcome = tests(arguments, seed)?;
        println!("run {}: {}, {outcome}", run + 1, seconds(begin.elapsed()));
        if outcome.failed > 0 {
            failed_seeds.push(seed.to_string());
        }
        total.add(outcome);
    }
    for line in &total.failures {
        println!("{line}");
    }
    if !failed_seeds.is_empty() {
        println!("failed with {SEED}={}", failed_seeds.join(", "));
    }
    if total == Outcome::default() {
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

/// One run over all test programs and documentation, the output of each passed on when it has ended.
fn tests(arguments: &Arguments, seed: u64) -> anyhow::Result<Outcome> {
    let begin = Instant::now();
    let (mut outcome, mut times) = (Outcome::default(), Vec::new());
    let Some(mut programs) = built(arguments)? else {
        println!("something did not compile");
        outcome.failed = 1;
        return Ok(outcome);
    };
    println!("build: {}", seconds(begin.elapsed()));
    for program in &mut programs {
        arguments.filter.iter().chain(&arguments.options).for_each(|argument| program.arg(argument));
    }
    if programs.iter().any(|program| program.is_library) {
        let mut command = test_command(arguments);
        command.arg("--doc").args(&arguments.filter).arg("--").args(&arguments.options);
        programs.push(Program::other("documentation", command));
    }

    programs::run(programs, (SEED, &seed.to_string()), |ran| {
        let mut shown = std::io::stdout().lock();
        writeln!(shown, "\n== {}: {}", ran.name, seconds(ran.time))?;
        shown.write_all(&ran.output)?;
        let failed_before = outcome.failed;
        String::from_utf8_lossy(&ran.output).lines().for_each(|line| outcome.read(line));
        if let Some(failure) = ran.failure.filter(|_| outcome.failed == failed_before) {
            let died = format!("{} ended with {failure}, and told of no failed test", ran.name);
            writeln!(shown, "{died}")?;
            outcome.failed += 1;
            outcome.failures.push(died);
        }
        times.push((ran.time, ran.name));
        Ok(())
    })?;
    say_what_took_long(times);
    Ok(outcome)
}

fn test_command(arguments: &Arguments) -> Command {
    let mut command = cargo(["test", "--no-fail-fast", "--all-features"]);
    if arguments.package.is_empty() {
        command.arg("--workspace");
    }
    for package in &arguments.package {
        command.args(["--package", package]);
    }
    command
}

/// Builds all test programs; nothing if one does not compile.
fn built(arguments: &Arguments) -> anyhow::Result<Option<Vec<Program>>> {
    let mut command = test_command(arguments);
    command.args(["--no-run", "--quiet", "--message-format", "json-render-diagnostics"]).stdout(Stdio::piped());
    let mut cargo = command.spawn().context("starting cargo")?;
    let output = cargo.stdout.take().context("cargo has no output")?;
    let mut programs = Vec::new();
    for line in BufReader::new(output).split(b'\n') {
        programs.extend(Program::read(&line.context("reading what cargo built")?));
    }
    Ok(cargo.wait().context("waiting for cargo")?.success().then_some(programs))
}

/// The programs that took more than a second, the longest first.
fn say_what_took_long(mut times: Vec<(Duration, String)>) {
    times.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    println!("\nhow long each program took, two at a time:");
    for (time, name) in times.iter().take_while(|(time, _)| time.as_secs() > 0) {
        println!("{:>9}  {name}", seconds(*time));
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
