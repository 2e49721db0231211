//! RabbitMQ's own scripts, and the Erlang that runs them.
//!
//! What a Linux distribution puts on the search path wraps them: it insists on a system user and redirects output.

use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::{Origin, Programs, Reason, cache, debian, newest};
use crate::command::{is_executable, which};
use crate::launch::Place;

const PACKAGE: &str = "rabbitmq-server";

pub(super) fn installed() -> Result<Programs, Reason> {
    let folder = candidates().into_iter().find(|folder| is_executable(&folder.join("rabbitmq-server")));
    let folder = folder.ok_or("no folder with RabbitMQ's own scripts")?;
    for program in ["erl", "epmd"] {
        which(program).ok_or_else(|| format!("no {program} on the search path"))?;
    }
    Ok(programs(Origin::Installed(folder.clone()), folder, Vec::new()))
}

pub(super) fn fetched() -> Result<Programs, Reason> {
    let root = debian::unpacked(PACKAGE)?;
    let home = newest(&root.join("usr/lib/rabbitmq/lib"), "rabbitmq_server-");
    let folder = home.ok_or("the package has no scripts")?.join("sbin");
    let erlang = root.join("usr/lib/erlang");
    if !erlang.is_dir() {
        // The machine had Erlang, so it was not fetched along.
        return Ok(programs(Origin::Fetched("Debian"), folder, vec![debian::library_path(&root)]));
    }
    let search = erlang_search_path(&erlang)?;
    let environment = vec![debian::library_path(&root), ("PATH".into(), search)];
    Ok(programs(Origin::Fetched("Debian"), folder, environment))
}

fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    folders.extend(newest(Path::new("/usr/lib/rabbitmq/lib"), "rabbitmq_server-").map(|home| home.join("sbin")));
    folders.push("/opt/rabbitmq/sbin".into());
    // A plain archive that someone unpacked: its scripts are the real ones.
    let linked = which("rabbitmq-server").and_then(|program| program.canonicalize().ok());
    let linked = linked.and_then(|program| Some(program.parent()?.to_path_buf()));
    folders.extend(linked.filter(|folder| folder.join("rabbitmq-env").exists()));
    folders
}

/// A search path whose first folder has an `erl` for Erlang at this place: Debian's own names its place for good.
fn erlang_search_path(erlang: &Path) -> Result<OsString, Reason> {
    let runtime = newest(erlang, "erts-").ok_or("the package has no Erlang runtime")?;
    let runtime = runtime.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let shims = cache::folder("erlang-programs", |folder| {
        let failed = |error: std::io::Error| error.to_string();
        // Relative to itself, so that the cache can be moved.
        let erlang = format!("../debian-{PACKAGE}/usr/lib/erlang");
        let erl = folder.join("erl");
        let script = format!(
            "#!/bin/sh\nROOTDIR=$(cd \"$(dirname \"$0\")/{erlang}\" && pwd)\nBINDIR=$ROOTDIR/{runtime}/bin\n\
             EMU=beam PROGNAME=erl\nexport ROOTDIR BINDIR EMU PROGNAME\nexec \"$BINDIR/erlexec\" \"$@\"\n"
        );
        std::fs::write(&erl, script).map_err(failed)?;
        std::fs::set_permissions(&erl, PermissionsExt::from_mode(0o755)).map_err(failed)?;
        symlink(format!("{erlang}/{runtime}/bin/epmd"), folder.join("epmd")).map_err(failed)
    })?;
    let mut folders = vec![shims];
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    std::env::join_paths(folders).map_err(|error| error.to_string())
}

fn programs(origin: Origin, folder: PathBuf, environment: Vec<(OsString, OsString)>) -> Programs {
    // The folder above is named after the version: asking the program itself would take seconds.
    let home = folder.canonicalize().ok().and_then(|folder| Some(folder.parent()?.file_name()?.to_owned()));
    let home = home.map(|home| home.to_string_lossy().into_owned()).unwrap_or_default();
    let version = home.rsplit_once('-').map_or("unknown", |(_, version)| version).to_owned();
    Programs { origin, version, place: Place::Host, folder, runtime: PathBuf::new(), environment }
}
