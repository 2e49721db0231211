//! The Redis server: one program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Origin, Programs, Reason, ask, debian};
use crate::command::which;
use crate::launch::Place;

const PROGRAM: &str = "redis-server";

pub(super) fn installed() -> Result<Programs, Reason> {
    let program = which(PROGRAM).ok_or("no redis-server on the search path")?;
    let folder = program.parent().unwrap_or(Path::new("/"));
    programs(Origin::Installed(folder.into()), folder, Vec::new())
}

pub(super) fn fetched() -> Result<Programs, Reason> {
    let root = debian::unpacked(PROGRAM)?;
    programs(Origin::Fetched("Debian"), &root.join("usr/bin"), vec![debian::library_path(&root)])
}

fn programs(origin: Origin, folder: &Path, environment: Vec<(OsString, OsString)>) -> Result<Programs, Reason> {
    let answer = ask(&folder.join(PROGRAM), &["--version"], &environment)?;
    let version = answer.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("unknown");
    let (folder, runtime) = (folder.into(), PathBuf::new());
    Ok(Programs { origin, version: version.into(), place: Place::Host, folder, runtime, environment })
}
