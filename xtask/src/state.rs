//! What `cargo xtask brokers` remembers between calls: who holds the brokers, and where they listen.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use test_brokers::{Kind, is_alive, started_at};

use crate::cargo::target;

/// The brokers that run in the background.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// The process that holds them, by number and start time, so that a reused number is not mistaken for it.
    pub(crate) holder: (i32, u64),
    pub(crate) brokers: Vec<Running>,
}

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) kind: Kind,
    pub(crate) url: String,
    /// Product, version and origin.
    pub(crate) description: String,
}

impl State {
    /// Of brokers that this process holds.
    pub(crate) fn of_own(brokers: Vec<Running>) -> anyhow::Result<Self> {
        let pid = i32::try_from(std::process::id()).context("the process's own number")?;
        let start = started_at(pid).context("the process's own start time")?;
        Ok(Self { holder: (pid, start), brokers })
    }

    /// The brokers that run; nothing if none do, or their holder is gone and they with it.
    pub(crate) fn load() -> anyhow::Result<Option<Self>> {
        let text = match std::fs::read_to_string(path()) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path().display())),
        };
        let state = Self::parse(&text).with_context(|| format!("reading {}", path().display()))?;
        Ok(Some(state).filter(Self::is_held))
    }

    pub(crate) fn is_held(&self) -> bool {
        let (pid, start) = self.holder;
        is_alive(pid, start)
    }

    /// Writes it in one piece: a reader sees all of it or nothing.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let path = path();
        let partial = path.with_extension("partial");
        let written = std::fs::write(&partial, self.render()).and_then(|()| std::fs::rename(&partial, &path));
        written.with_context(|| format!("writing {}", path.display()))
    }

    pub(crate) fn forget() -> anyhow::Result<()> {
        match std::fs::remove_file(path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", path().display()))
            }
            _ => Ok(()),
        }
    }

    fn render(&self) -> String {
        let (pid, start) = self.holder;
        let mut text = format!("holder\t{pid}\t{start}\n");
        for Running { kind, url, description } in &self.brokers {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}\t{url}\t{description}", kind.name());
        }
        text
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut holder = None;
        let mut brokers = Vec::new();
        for line in text.lines() {
            let [name, first, second] = line.split('\t').collect::<Vec<_>>()[..] else { bail!("line {line:?}") };
            if name == "holder" {
                holder = Some((first.parse()?, second.parse()?));
            } else {
                let kind = Kind::from_name(name).with_context(|| format!("there is no broker {name:?}"))?;
                brokers.push(Running { kind, url: first.into(), description: second.into() });
            }
        }
        Ok(Self { holder: holder.context("no line `holder`")?, brokers })
    }
}

/// The folder of all that brokers in the background leave on disk.
pub(crate) fn folder() -> PathBuf {
    target().join("brokers")
}

fn path() -> PathBuf {
    folder().join("running")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_what_is_loaded() {
        let running =
            Running { kind: Kind::Redis, url: "redis://h:1".into(), description: "Redis 7, somewhere".into() };
        let state = State::of_own(vec![running]).unwrap();
        assert_eq!(State::parse(&state.render()).unwrap(), state);
        assert!(state.is_held());
    }

    #[test]
    fn a_holder_that_is_gone_holds_nothing() {
        let mut state = State::of_own(Vec::new()).unwrap();
        state.holder.1 += 1;
        assert!(!state.is_held());
    }

    #[test]
    fn a_broken_file_is_an_error_not_an_empty_state() {
        assert!(State::parse("holder\t1").is_err());
        assert!(State::parse("").is_err());
        assert!(State::parse("holder\t1\t2\nmongo\tx\ty").is_err());
    }
}
