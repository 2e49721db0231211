//! `cargo xtask lint`: what a change has to pass besides the tests.

mod dependencies;

use crate::cargo::{cargo, succeeds};

/// Runs every check, also after one that failed, and says which did.
pub(crate) fn run() -> anyhow::Result<bool> {
    let format = cargo(["fmt", "--all", "--check"]);
    let clippy =
        cargo(["clippy", "--workspace", "--all-targets", "--all-features", "--quiet", "--", "--deny", "warnings"]);
    let mut documentation = cargo(["doc", "--workspace", "--all-features", "--no-deps", "--quiet"]);
    documentation.env("RUSTDOCFLAGS", "--deny warnings");

    let mut failed = Vec::new();
    for (name, check) in [("formatting", format), ("clippy", clippy), ("documentation", documentation)] {
        eprintln!("lint: {name}");
        if !succeeds(check)? {
            failed.push(name);
        }
    }
    eprintln!("lint: dependencies");
    if !dependencies::check()? {
        failed.push("dependencies");
    }
    if !failed.is_empty() {
        eprintln!("lint: failed: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}
