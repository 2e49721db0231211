//! PostgreSQL's server programs, which Debian keeps off the search path, one folder per major version.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Origin, Programs, Reason, ask, debian, newest};
use crate::command::{is_executable, which};
use crate::launch::Place;

pub(super) fn installed() -> Result<Programs, Reason> {
    let folder = candidates().into_iter().find(|folder| is_complete(folder));
    let folder = folder.ok_or("no folder with both postgres and initdb")?;
    programs(Origin::Installed(folder.clone()), &folder, Vec::new())
}

pub(super) fn fetched() -> Result<Programs, Reason> {
    let root = debian::unpacked("postgresql")?;
    let folder = newest(&root.join("usr/lib/postgresql"), "").map(|version| version.join("bin"));
    let folder = folder.filter(|folder| is_complete(folder)).ok_or("the package has no server programs")?;
    programs(Origin::Fetched("Debian"), &folder, vec![debian::library_path(&root)])
}

fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    folders.extend(newest(Path::new("/usr/lib/postgresql"), "").map(|version| version.join("bin")));
    // `pg_config` may belong to the client library alone, hence the check for completeness.
    let told = which("pg_config").and_then(|program| ask(&program, &["--bindir"], &[]).ok());
    folders.extend(told.map(|folder| PathBuf::from(folder.trim())));
    // On the search path it is often a link into the real folder, where its other files are found from.
    let linked = which("postgres").and_then(|program| program.canonicalize().ok());
    folders.extend(linked.and_then(|program| Some(program.parent()?.to_path_buf())));
    folders.extend(newest(Path::new("/usr"), "pgsql-").map(|version| version.join("bin")));
    folders
}

fn is_complete(folder: &Path) -> bool {
    ["postgres", "initdb"].iter().all(|program| is_executable(&folder.join(program)))
}

fn programs(origin: Origin, folder: &Path, environment: Vec<(OsString, OsString)>) -> Result<Programs, Reason> {
    let answer = ask(&folder.join("postgres"), &["--version"], &environment)?;
    // `postgres (PostgreSQL) 15.18 (Debian …)`
    let version = answer.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    let version = version.unwrap_or("unknown").to_owned();
    let (folder, runtime) = (folder.into(), PathBuf::new());
    Ok(Programs { origin, version, place: Place::Host, folder, runtime, environment })
}
