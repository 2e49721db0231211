//! Where a broker's programs come from: installed ones, a container engine, or packages fetched into a cache.

pub(crate) mod cache;
mod container;
mod debian;
mod kafka;
mod postgres;
mod rabbitmq;
mod redis;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::command::run;
use crate::error::Error;
use crate::kind::Kind;
use crate::launch::Place;

/// Where a broker came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// An address in this environment variable.
    Given(&'static str),
    /// Programs found on this machine, in this folder.
    Installed(PathBuf),
    /// A container of this image.
    Container(String),
    /// Packages fetched from here (`Debian`, `Maven`) into a cache, without installing them.
    Fetched(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(variable) => write!(f, "given by {variable}"),
            Self::Installed(folder) => write!(f, "installed in {}", folder.display()),
            Self::Container(image) => write!(f, "container of {image}"),
            Self::Fetched(source) => write!(f, "fetched from {source}"),
        }
    }
}

/// A broker's programs, ready to be started.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) origin: Origin,
    pub(crate) version: String,
    pub(crate) place: Place,
    /// The folder of the programs, or of Kafka's jars; empty in a container, whose search path knows them.
    pub(crate) folder: PathBuf,
    /// What runs them, if they do not run by themselves: Java.
    pub(crate) runtime: PathBuf,
    /// What has to be set for them to run from where they are.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

impl Programs {
    /// A program by its path, or by its name alone where the search path is to find it.
    pub(crate) fn program(&self, name: &str) -> OsString {
        self.folder.join(name).into_os_string()
    }
}

/// Why a source has no programs: a sentence for the summary.
type Reason = String;

/// The sources of programs, in the order in which they are tried.
const SOURCES: [&str; 3] = ["installed", "container", "fetched"];

/// Finds a broker's programs, fetching them if need be. Looked for once per process, also in vain.
pub(crate) fn find(kind: Kind) -> Result<Arc<Programs>, Error> {
    type Found = Result<Arc<Programs>, Vec<Reason>>;
    static FOUND: Mutex<BTreeMap<Kind, Found>> = Mutex::new(BTreeMap::new());
    // Held while looking, so that tests that start together look once; other kinds can wait as well.
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let found = found.entry(kind).or_insert_with(|| search(kind).map(Arc::new));
    found.clone().map_err(|tried| Error::Missing { kind, tried })
}

fn search(kind: Kind) -> Result<Programs, Vec<Reason>> {
    let only = std::env::var("TEST_BROKERS_SOURCES").ok().filter(|list| !list.is_empty());
    let allowed = |source: &str| only.as_ref().is_none_or(|list| list.split(',').any(|name| name.trim() == source));
    let mut tried = Vec::new();
    for source in SOURCES.into_iter().filter(|source| allowed(source)) {
        let result = match source {
            "installed" => installed(kind),
            "container" => container::programs(kind),
            _ => fetched(kind),
        };
        match result {
            Ok(programs) => return Ok(programs),
            Err(reason) => tried.push(format!("{source}: {reason}")),
        }
    }
    if tried.is_empty() {
        tried.push(format!("TEST_BROKERS_SOURCES allows none of {SOURCES:?}"));
    }
    Err(tried)
}

fn installed(kind: Kind) -> Result<Programs, Reason> {
    match kind {
        Kind::Kafka => kafka::installed(),
        Kind::Redis => redis::installed(),
        Kind::RabbitMq => rabbitmq::installed(),
        Kind::Postgres => postgres::installed(),
    }
}

fn fetched(kind: Kind) -> Result<Programs, Reason> {
    match kind {
        Kind::Kafka => kafka::fetched(),
        Kind::Redis => redis::fetched(),
        Kind::RabbitMq => rabbitmq::fetched(),
        Kind::Postgres => postgres::fetched(),
    }
}

/// What a program prints about itself, such as its version.
fn ask(program: &Path, arguments: &[&str], environment: &[(OsString, OsString)]) -> Result<String, Reason> {
    let mut command = Command::new(program);
    command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
    run(command, Duration::from_secs(30)).map_err(|error| error.to_string())
}

/// The subfolder or file in `folder` that starts with `prefix` and comes last by its numbers, as 15 after 9.
fn newest(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let named = names.filter_map(|name| Some((numbers(name.strip_prefix(prefix)?), name)));
    named.max().map(|(_, name)| folder.join(name))
}

fn numbers(text: &str) -> Vec<u64> {
    text.split(|character: char| !character.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_told_by_numbers_not_letters() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["x-9.6", "x-15", "x-9.10", "y-99"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(newest(folder.path(), "x-"), Some(folder.path().join("x-15")));
        assert_eq!(newest(folder.path(), "z-"), None);
    }
}
