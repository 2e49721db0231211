//! Cargo, as this workspace's chores call it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// The Cargo that runs us, in the workspace's root.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs it with its output shown; false if it failed.
pub(crate) fn succeeds(mut command: Command) -> anyhow::Result<bool> {
    let status = command.status().with_context(|| format!("starting {}", command.get_program().display()))?;
    Ok(status.success())
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    let set = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
    set.map_or_else(|| root().join("target"), PathBuf::from)
}
