//! `cargo xtask brokers`: real brokers in the background, until they are told to go.

mod holder;

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use rustix::process::{Pid, Signal, kill_process};
use test_brokers::Kind;

use self::holder::{Event, Stage};
use crate::progress::Steps;
use crate::state::{Running, State, folder};

/// How long the holder may take to end all brokers.
const DOWN_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Start brokers and print their addresses; they run until `down`.
    Up {
        /// kafka, redis, rabbitmq or postgres; all of them if none is named.
        #[arg(value_parser = kind)]
        brokers: Vec<Kind>,
    },
    /// End the brokers that `up` started, and remove their data.
    Down,
    /// Print what runs, and whether it answers.
    Status,
    /// Hold brokers in the foreground: what `up` starts in the background.
    #[command(hide = true)]
    Hold {
        #[arg(value_parser = kind, required = true)]
        brokers: Vec<Kind>,
    },
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::from_name(name).ok_or_else(|| format!("one of {}", Kind::ALL.map(Kind::name).join(", ")))
}

pub(crate) fn run(action: Action) -> anyhow::Result<bool> {
    match action {
        Action::Up { brokers } if brokers.is_empty() => up(&Kind::ALL),
        Action::Up { brokers } => up(&brokers),
        Action::Down => down(),
        Action::Status => status(),
        Action::Hold { brokers } => holder::run(&brokers),
    }
}

fn up(kinds: &[Kind]) -> anyhow::Result<bool> {
    if let Some(state) = State::load()? {
        let wanted: Vec<_> = kinds.iter().filter(|kind| state.brokers.iter().all(|own| own.kind != **kind)).collect();
        print_addresses(&state.brokers);
        if let Some(missing) = wanted.first() {
            bail!("brokers are up already, without {missing}: `cargo xtask brokers down` first");
        }
        return Ok(true);
    }
    std::fs::create_dir_all(folder())?;
    let log = folder().join("holder.log");
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.args(["brokers", "hold"]).args(kinds.iter().map(|kind| kind.name()));
    // A process group of its own: Ctrl-C here does not end what is to stay.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
    let mut holder = command.spawn().context("starting the holder")?;
    let output = holder.stdout.take().context("the holder has no output")?;

    let mut steps = Steps::new();
    for line in BufReader::new(output).lines() {
        match Event::parse(&line.context("reading the holder's progress")?) {
            Some(Event::Complete) => {
                let state = State::load()?.context("the holder ended")?;
                print_addresses(&state.brokers);
                return Ok(true);
            }
            Some(Event::Stage(kind, Stage::Doing(what))) => steps.begin(kind, &what),
            Some(Event::Stage(kind, Stage::Ready(what))) => steps.end(kind, true, &what),
            Some(Event::Stage(kind, Stage::Failed(what))) => steps.end(kind, false, &what),
            None => {}
        }
    }
    let status = holder.wait()?;
    bail!("no brokers are up: the holder ended with {status}; see {}", log.display())
}

fn down() -> anyhow::Result<bool> {
    let Some(state) = State::load()? else {
        println!("no brokers are up");
        State::forget()?;
        return Ok(true);
    };
    let pid = Pid::from_raw(state.holder.0).context("the holder's number")?;
    kill_process(pid, Signal::TERM).context("telling the holder to end")?;
    let deadline = Instant::now() + DOWN_LIMIT;
    while state.is_held() {
        if Instant::now() > deadline {
            bail!("the holder, process {}, did not end within {DOWN_LIMIT:?}", state.holder.0);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for broker in &state.brokers {
        println!("down: {}", broker.description);
    }
    Ok(true)
}

fn status() -> anyhow::Result<bool> {
    let Some(state) = State::load()? else {
        println!("no brokers are up");
        return Ok(true);
    };
    print_addresses(&state.brokers);
    let silent: Vec<_> = state.brokers.iter().filter(|broker| !answers(broker)).collect();
    for broker in &silent {
        println!("does not answer: {}", broker.description);
    }
    Ok(silent.is_empty())
}

fn answers(broker: &Running) -> bool {
    let host = broker.url.rsplit_once("://").map_or("", |(_, rest)| rest);
    let host = host.rsplit_once('@').map_or(host, |(_, rest)| rest);
    let host = host.split(['/', '?', ',']).next().unwrap_or_default();
    TcpStream::connect(host).is_ok()
}

/// Lines that a shell or an `.env` file takes as they are.
fn print_addresses(brokers: &[Running]) {
    for Running { kind, url, description } in brokers {
        let variable = if *kind == Kind::Postgres { "DATABASE_URL" } else { "MESSAGING_URL" };
        println!("# {description}; for tests: {}", kind.variable());
        println!("{variable}={url}");
    }
}
