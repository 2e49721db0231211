//! Apache Kafka's jars, and the Java that runs them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Origin, Programs, Reason, ask, cache, numbers};
use crate::command::{is_executable, run, which};
use crate::launch::Place;

/// The version that is fetched.
pub(super) const VERSION: &str = "4.4.0";

/// Kafka 4 needs this Java at least.
const LEAST_JAVA: u64 = 17;

const LIMIT: Duration = Duration::from_secs(600);

pub(super) fn installed() -> Result<Programs, Reason> {
    let set = std::env::var_os("KAFKA_HOME").filter(|home| !home.is_empty());
    let script = ["kafka-server-start.sh", "kafka-server-start"].iter().find_map(|name| which(name));
    let above = |script: PathBuf| Some(script.canonicalize().ok()?.parent()?.parent()?.to_path_buf());
    let home = set.map(PathBuf::from).or_else(|| script.and_then(above));
    let home = home.or_else(|| Some(PathBuf::from("/opt/kafka")).filter(|home| home.is_dir()));
    let libs = home.ok_or("neither KAFKA_HOME nor kafka-server-start.sh on the search path")?.join("libs");
    let programs = programs(Origin::Installed(libs.clone()), libs, java()?)?;
    if numbers(&programs.version).first().is_none_or(|major| *major < 4) {
        return Err(format!("it is version {}, but 4 is the first without ZooKeeper", programs.version));
    }
    Ok(programs)
}

pub(super) fn fetched() -> Result<Programs, Reason> {
    let java = java().or_else(|reason| {
        cache::exclusive("install", || {
            // Another process may have been faster.
            java().or_else(|_| install("default-jre-headless").and_then(|()| java()))
        })
        .map_err(|why| format!("{reason}; {why}"))
    })?;
    let libs = cache::folder(&format!("kafka-{VERSION}"), copy_jars)?;
    programs(Origin::Fetched("Maven"), libs, java)
}

fn programs(origin: Origin, libs: PathBuf, java: PathBuf) -> Result<Programs, Reason> {
    let entries = std::fs::read_dir(&libs).map_err(|error| format!("{}: {error}", libs.display()))?;
    let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let version = names.find_map(|name| Some(name.strip_prefix("kafka-clients-")?.strip_suffix(".jar")?.to_owned()));
    let version = version.ok_or_else(|| format!("no kafka-clients jar in {}", libs.display()))?;
    Ok(Programs { origin, version, place: Place::Host, folder: libs, runtime: java, environment: Vec::new() })
}

/// A Java that is new enough.
fn java() -> Result<PathBuf, Reason> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let java = home.filter(|java| is_executable(java)).or_else(|| which("java")).ok_or("no Java")?;
    let answer = ask(&java, &["-version"], &[])?;
    // `openjdk version "17.0.15" 2025-04-15`
    let version = answer.split('"').nth(1).unwrap_or_default();
    match numbers(version).first() {
        Some(major) if *major >= LEAST_JAVA => Ok(java),
        _ => Err(format!("Java is {version}, Kafka needs {LEAST_JAVA}")),
    }
}

/// Lets Maven copy Kafka and all it depends on into one folder.
fn copy_jars(folder: &Path) -> Result<(), Reason> {
    cache::exclusive("install", || if which("mvn").is_none() { install("maven") } else { Ok(()) })?;
    let work = tempfile::tempdir().map_err(|error| error.to_string())?;
    std::fs::write(work.path().join("pom.xml"), pom()).map_err(|error| error.to_string())?;
    let mut output = OsString::from("-DoutputDirectory=");
    output.push(folder);
    let mut command = Command::new("mvn");
    command.args(["--batch-mode", "--quiet", "dependency:copy-dependencies", "-DincludeScope=runtime"]).arg(output);
    command.current_dir(work.path());
    run(command, LIMIT).map(|_| ()).map_err(|error| error.to_string())
}

fn pom() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>"
        )
    };
    let dependencies =
        dependency("org.apache.kafka", "kafka_2.13", VERSION) + &dependency("org.slf4j", "slf4j-simple", "1.7.36");
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>test-brokers</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>\
         <dependencies>{dependencies}</dependencies></project>"
    )
}

/// Installs what no cache can hold: Java and Maven bring no service with them that would start.
fn install(package: &str) -> Result<(), Reason> {
    if which("apt-get").is_none() {
        return Err(format!("{package} must be installed"));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(format!("`apt-get install {package}` needs root"));
    }
    for arguments in [&["update"][..], &["install", "--no-install-recommends", package]] {
        let mut command = Command::new("apt-get");
        command.args(["--quiet", "--yes", "--option", "DPkg::Lock::Timeout=300"]).args(arguments);
        command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        run(command, LIMIT).map_err(|error| error.to_string())?;
    }
    Ok(())
}
