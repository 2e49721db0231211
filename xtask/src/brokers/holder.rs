//! The process that holds brokers in the background: it starts them, says how it goes, and waits to be ended.
//!
//! Brokers end with the process that started them, however it ends. So whoever wants them to stay keeps one.

use std::io::Write as _;

use anyhow::Context as _;
use test_brokers::{Broker, Error, Kafka, Kind, Postgres, RabbitMq, Redis};
use tokio::signal::unix::{SignalKind, signal};

use crate::state::{Running, State};

/// What the holder says on its standard output, one per line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Stage(Kind, Stage),
    /// All brokers are ready, and the state is written.
    Complete,
}

/// How far a broker is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Doing(String),
    Ready(String),
    Failed(String),
}

impl Event {
    pub(super) fn parse(line: &str) -> Option<Self> {
        if line == "complete" {
            return Some(Self::Complete);
        }
        let mut words = line.splitn(3, '\t');
        let kind = Kind::from_name(words.next()?)?;
        let stage = words.next()?;
        let text = words.next()?.to_owned();
        let stage = match stage {
            "doing" => Stage::Doing(text),
            "ready" => Stage::Ready(text),
            "failed" => Stage::Failed(text),
            _ => return None,
        };
        Some(Self::Stage(kind, stage))
    }

    fn render(&self) -> String {
        match self {
            Self::Complete => "complete".into(),
            Self::Stage(kind, stage) => {
                let (stage, text) = match stage {
                    Stage::Doing(text) => ("doing", text),
                    Stage::Ready(text) => ("ready", text),
                    Stage::Failed(text) => ("failed", text),
                };
                format!("{}\t{stage}\t{}", kind.name(), text.replace('\n', " "))
            }
        }
    }

    fn say(&self) {
        // Whoever listened may be gone; the brokers are wanted all the same.
        let mut output = std::io::stdout();
        let _ = writeln!(output, "{}", self.render()).and_then(|()| output.flush());
    }
}

/// Any broker, kept.
enum Held {
    Kafka(Kafka),
    Redis(Redis),
    RabbitMq(RabbitMq),
    Postgres(Postgres),
}

impl Held {
    async fn start(kind: Kind) -> Result<Self, Error> {
        Ok(match kind {
            // Routes through proxies are for tests only.
            Kind::Kafka => Self::Kafka(Kafka::options().routes(0).start().await?),
            Kind::Redis => Self::Redis(Redis::start_new().await?),
            Kind::RabbitMq => Self::RabbitMq(RabbitMq::start_new().await?),
            Kind::Postgres => Self::Postgres(Postgres::start_new().await?),
        })
    }

    fn broker(&self) -> &Broker {
        match self {
            Self::Kafka(broker) => broker,
            Self::Redis(broker) => broker,
            Self::RabbitMq(broker) => broker,
            Self::Postgres(broker) => broker,
        }
    }

    fn running(&self) -> Running {
        let broker = self.broker();
        let version = broker.version().map(|version| format!(" {version}")).unwrap_or_default();
        let description = format!("{}{version}, {}", broker.kind(), broker.origin());
        Running { kind: broker.kind(), url: broker.url(), description }
    }
}

pub(super) fn run(kinds: &[Kind]) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(hold(kinds))
}

async fn hold(kinds: &[Kind]) -> anyhow::Result<bool> {
    // Before anything starts: from here on a signal ends this process in order.
    let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
    let mut hang_up = signal(SignalKind::hangup()).context("listening for signals")?;
    let held = tokio::select! {
        held = start(kinds) => held?,
        _ = terminate.recv() => return Ok(false),
    };
    State::of_own(held.iter().map(Held::running).collect())?.save()?;
    Event::Complete.say();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            // The terminal that started them may close; the brokers stay.
            _ = hang_up.recv() => {}
        }
    }
    State::forget()?;
    drop(held);
    Ok(true)
}

/// Starts one after the other: together they would only compete for the same processors.
async fn start(kinds: &[Kind]) -> anyhow::Result<Vec<Held>> {
    let mut held = Vec::new();
    for kind in kinds.iter().copied() {
        Event::Stage(kind, Stage::Doing("looking for its programs, and starting".into())).say();
        match Held::start(kind).await {
            Ok(broker) => {
                Event::Stage(kind, Stage::Ready(broker.running().description)).say();
                held.push(broker);
            }
            Err(error) => {
                Event::Stage(kind, Stage::Failed(error.to_string())).say();
                return Err(error).with_context(|| format!("starting {kind}"));
            }
        }
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_holder_says_is_understood() {
        let events = [
            Event::Complete,
            Event::Stage(Kind::Kafka, Stage::Doing("starting".into())),
            Event::Stage(Kind::Redis, Stage::Ready("Redis 7, somewhere".into())),
            Event::Stage(Kind::Postgres, Stage::Failed("no".into())),
        ];
        for event in events {
            assert_eq!(Event::parse(&event.render()), Some(event));
        }
        assert_eq!(Event::parse("anything else"), None);
    }
}
