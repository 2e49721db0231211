//! An archive of Kafka's loaded classes: with it, a node starts in half the time and half the work.

use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use super::options::{cluster_id, with_jars};
use super::properties::Properties;
use crate::error::Error;
use crate::kind::Kind;
use crate::launch::{Launch, Place};
use crate::node::{Node, Plan};
use crate::options::node_folder;
use crate::ports;
use crate::programs::{Programs, cache};
use crate::ready;

const LIMIT: Duration = Duration::from_secs(120);

const FILE: &str = "classes.jsa";

/// The archive for these programs, made on the first call on a machine by starting a node once. Only a convenience: if it
/// cannot be made, or does not fit the Java that reads it, nodes start without it.
pub(super) fn find(programs: &Programs) -> Option<PathBuf> {
    if programs.place != Place::Host {
        return None;
    }
    // An archive belongs to one Java and to one list of jars.
    let mut hasher = DefaultHasher::new();
    (&programs.runtime, programs.runtime.metadata().ok()?.len(), jars(&programs.folder)).hash(&mut hasher);
    let name = format!("kafka-{}-classes-{:016x}", programs.version, hasher.finish());
    let folder = cache::folder(&name, |folder| train(programs, folder).map_err(|error| error.to_string()));
    Some(folder.ok()?.join(FILE)).filter(|archive| archive.is_file())
}

/// The class path. The archive wants the same jars in the same order each time, so they are listed here, not by Java.
pub(super) fn jars(folder: &Path) -> OsString {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut jars: Vec<_> = entries.filter(|path| path.extension() == Some(OsStr::new("jar"))).collect();
    jars.sort();
    // Fails only for a path with a colon, which Java could not read anyway.
    std::env::join_paths(jars).unwrap_or_default()
}

pub(super) fn flag(flag: &str, file: &Path) -> OsString {
    let mut text = OsString::from(flag);
    text.push(file);
    text
}

/// Starts a node once and lets Java write down what it loaded.
fn train(programs: &Programs, target: &Path) -> Result<(), Error> {
    let folder = node_folder(Kind::Kafka)?;
    let ports = ports::reserve(2)?;
    let [port, controller] = [0, 1].map(|index: usize| ports[index].number());
    let voters = [format!("1@127.0.0.1:{controller}")];
    let mut properties = Properties::new(1, 1, &voters, &folder.path().join("data"));
    properties.listen("DIRECT", "PLAINTEXT", port, port);
    properties.listen_for_controllers(controller);
    properties.write(folder.path())?;
    let file = folder.path().join("server.properties");

    let java = |options: &[OsString]| {
        let launch = Launch::new(&programs.place, programs.runtime.as_os_str(), folder.path());
        with_jars(launch.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]).args(options), programs)
    };
    let format = java(&[]).args(["kafka.tools.StorageTool", "format", "--cluster-id", &cluster_id(), "--config"]);
    let format = format.arg(&file);
    let write = flag("-XX:ArchiveClassesAtExit=", &target.join(FILE));
    let launch = java(&[write]).arg("kafka.Kafka").arg(&file);
    let node = Node::new(Plan {
        name: "kafka-classes".into(),
        folder,
        ports,
        launch,
        stop: Signal::TERM,
        probe: Arc::new(move || ready::kafka_node(port, 1)),
        limit: LIMIT,
    })?;
    node.prepare_now(&format)?;
    node.start_now()?;
    node.stop_now()
}
