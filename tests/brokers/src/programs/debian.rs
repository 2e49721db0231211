//! Debian packages unpacked into the cache: nothing is installed, started or configured, and no root is needed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Reason, cache};
use crate::command::{run, which};

const LIMIT: Duration = Duration::from_secs(600);

/// A folder into which this package is unpacked, with those it needs that the machine does not have.
pub(super) fn unpacked(package: &str) -> Result<PathBuf, Reason> {
    if which("apt-get").is_none() || which("dpkg").is_none() {
        return Err("neither a Debian machine nor one like it".into());
    }
    cache::folder(&format!("debian-{package}"), |folder| unpack(package, folder))
}

/// What makes the system's loader find the unpacked libraries.
pub(super) fn library_path(root: &Path) -> (OsString, OsString) {
    let mut folders = Vec::new();
    for lib in ["usr/lib", "lib"] {
        let lib = root.join(lib);
        let entries = std::fs::read_dir(&lib).into_iter().flatten().flatten();
        // Debian keeps libraries in a folder named after the machine's architecture.
        folders.extend(entries.map(|entry| entry.path()).filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-linux-gnu")) && path.is_dir()
        }));
    }
    let known = std::env::var_os("LD_LIBRARY_PATH").filter(|paths| !paths.is_empty());
    folders.extend(known.iter().flat_map(std::env::split_paths));
    // Fails only for a path with a colon, which the loader could not read anyway.
    let value = std::env::join_paths(folders).unwrap_or_default();
    ("LD_LIBRARY_PATH".into(), value)
}

fn unpack(package: &str, folder: &Path) -> Result<(), Reason> {
    let work = tempfile::tempdir().map_err(|error| error.to_string())?;
    let archives = match download(package, work.path(), &[]) {
        Ok(archives) => archives,
        // The machine's package lists may be empty or old: have own ones.
        Err(_) => {
            let options = own_lists(work.path())?;
            apt(work.path(), &options, &["update"])?;
            download(package, work.path(), &options)?
        }
    };
    for archive in archives {
        let mut command = Command::new("dpkg");
        command.arg("--extract").arg(archive).arg(folder);
        run(command, LIMIT).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Downloads what installing the package would install.
fn download(package: &str, folder: &Path, options: &[OsString]) -> Result<Vec<PathBuf>, Reason> {
    let plan = apt(folder, options, &["install", "--simulate", "--no-install-recommends", package])?;
    let mut names: Vec<_> =
        plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next()).collect();
    if names.is_empty() {
        // Installed already, though not where it was looked for.
        names.push(package);
    }
    let mut arguments = vec!["download"];
    arguments.extend(names);
    apt(folder, options, &arguments)?;
    let entries = std::fs::read_dir(folder).map_err(|error| error.to_string())?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect())
}

fn apt(folder: &Path, options: &[OsString], arguments: &[&str]) -> Result<String, Reason> {
    let mut command = Command::new("apt-get");
    command.args(["--quiet", "--yes", "--option", "APT::Sandbox::User=root"]).args(options).args(arguments);
    command.current_dir(folder).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
    run(command, LIMIT).map_err(|error| error.to_string())
}

/// Options for package lists in this folder, which need no root.
fn own_lists(folder: &Path) -> Result<Vec<OsString>, Reason> {
    let mut options = vec!["--option".into(), "Debug::NoLocking=true".into()];
    for (setting, name) in [("Dir::State::lists", "lists"), ("Dir::Cache", "cache")] {
        let own = folder.join(name);
        // apt-get wants these folders there.
        for inner in ["partial", "archives/partial"] {
            std::fs::create_dir_all(own.join(inner)).map_err(|error| error.to_string())?;
        }
        let mut option = OsString::from(setting);
        option.push("=");
        option.push(own);
        options.extend(["--option".into(), option]);
    }
    Ok(options)
}
