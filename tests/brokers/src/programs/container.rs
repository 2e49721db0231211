//! Brokers from container images, where an engine of this machine runs.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::{Origin, Programs, Reason};
use crate::command::{run, which};
use crate::kind::Kind;
use crate::launch::Place;

/// Downloading an image takes as long as the network needs.
const PULL_LIMIT: Duration = Duration::from_secs(900);

/// The image of a kind, pinned to a line of versions.
fn image(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Kafka => ("apache/kafka", super::kafka::VERSION),
        Kind::Redis => ("redis", "7"),
        Kind::RabbitMq => ("rabbitmq", "4"),
        Kind::Postgres => ("postgres", "17"),
    }
}

pub(super) fn programs(kind: Kind) -> Result<Programs, Reason> {
    engine()?;
    let (name, version) = image(kind);
    let image = format!("{name}:{version}");
    let present = docker(&["image", "inspect", &image], Duration::from_secs(30));
    if present.is_err() {
        docker(&["pull", "--quiet", &image], PULL_LIMIT)?;
    }
    // Kafka's jars are named to Java by their folder; all other programs are on the image's search path.
    let folder = if kind == Kind::Kafka { PathBuf::from("/opt/kafka/libs") } else { PathBuf::new() };
    Ok(Programs {
        origin: Origin::Container(image.clone()),
        version: version.into(),
        place: Place::Container(image),
        folder,
        runtime: PathBuf::from("java"),
        environment: Vec::new(),
    })
}

/// Asks once per process whether an engine answers, and whether it is this machine's.
fn engine() -> Result<(), Reason> {
    static ENGINE: OnceLock<Result<(), Reason>> = OnceLock::new();
    ENGINE
        .get_or_init(|| {
            if which("docker").is_none() {
                return Err("no docker program".into());
            }
            if let Ok(host) = std::env::var("DOCKER_HOST")
                && !host.starts_with("unix://")
            {
                return Err("the Docker engine is another machine's".into());
            }
            docker(&["info", "--format", "{{.ServerVersion}}"], Duration::from_secs(20))
                .map_err(|_| "no Docker engine answers".into())
        })
        .clone()
}

fn docker(arguments: &[&str], limit: Duration) -> Result<(), Reason> {
    let mut command = Command::new("docker");
    command.args(arguments);
    run(command, limit).map(|_| ()).map_err(|error| error.to_string())
}
