//! `cargo xtask package`: packages every library as a registry would get it, and builds a crate of somebody else's from
//! the packages.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::cargo::{cargo, root, succeeds, target};

/// What is published, the depended-on first.
const LIBRARIES: [&str; 10] = [
    "messaging-macros",
    "messaging",
    "messaging-memory",
    "messaging-kafka",
    "messaging-redis",
    "messaging-rabbitmq",
    "messaging-outbox",
    "messaging-backends",
    "messaging-conformance",
    "messaging-cli",
];

/// How much is built from the packages.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Every library, instead of those that need no broker: takes as long as a first build.
    #[arg(long)]
    all: bool,
    /// Package what is not committed, too.
    #[arg(long)]
    allow_dirty: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let packages = target().join("package");
    // Packages of other versions are not to be taken for today's.
    if packages.exists() {
        fs::remove_dir_all(&packages).with_context(|| format!("removing {}", packages.display()))?;
    }
    // Verified below, all at once: Cargo would build each of them from nothing.
    let mut command = cargo(["package", "--no-verify"]);
    command.args(LIBRARIES.iter().flat_map(|library| ["--package", library]));
    if arguments.allow_dirty {
        command.arg("--allow-dirty");
    }
    if !succeeds(command)? {
        return Ok(false);
    }
    let unpacked = packages.join("unpacked");
    let outside = packages.join("outside");
    let patches = unpack(&packages, &unpacked)?;
    copy(&root().join("xtask/packaged"), &outside)?;
    let manifest = outside.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    fs::write(&manifest, format!("{text}\n[patch.crates-io]\n{patches}"))?;
    // The same versions of everything else, and no download of what is there.
    fs::copy(root().join("Cargo.lock"), outside.join("Cargo.lock"))?;
    let mut command = cargo(["test"]);
    if arguments.all {
        command.args(["--features", "all"]);
    }
    command.current_dir(&outside).env("CARGO_TARGET_DIR", target());
    succeeds(command)
}

/// Unpacks every package, and answers where each is as lines of a manifest.
fn unpack(packages: &Path, unpacked: &Path) -> anyhow::Result<String> {
    fs::create_dir_all(unpacked)?;
    let mut patches = String::new();
    for library in LIBRARIES {
        let name = format!("{library}-{}", env!("CARGO_PKG_VERSION"));
        let archive = packages.join(format!("{name}.crate"));
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(&archive).arg("-C").arg(unpacked);
        ensure!(succeeds(tar)?, "{} cannot be unpacked", archive.display());
        writeln!(patches, "{library} = {{ path = {:?} }}", unpacked.join(name))?;
    }
    Ok(patches)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
