//! The folder where fetched programs stay, filled by one process at a time.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Reason;
use crate::process::GLANCE;

/// How long another process may take to fetch the same thing.
const LOCK_LIMIT: Duration = Duration::from_secs(900);

/// `TEST_BROKERS_CACHE`, else `brokers` in Cargo's target folder.
fn root() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let chosen = set("TEST_BROKERS_CACHE").or_else(|| Some(set("CARGO_TARGET_DIR")?.join("brokers")));
    let workspace = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/brokers");
    let root = chosen.unwrap_or_else(workspace);
    std::path::absolute(&root).unwrap_or(root)
}

/// The folder of that name in the cache, filled by `fill` if it is not there yet. It appears only when it is complete,
/// so a fetch that is cut short leaves nothing that looks like one.
pub(crate) fn folder(name: &str, fill: impl FnOnce(&Path) -> Result<(), Reason>) -> Result<PathBuf, Reason> {
    folder_in(&root(), name, fill)
}

/// Does something that only one process may do at a time.
pub(super) fn exclusive<T>(name: &str, work: impl FnOnce() -> Result<T, Reason>) -> Result<T, Reason> {
    let _lock = lock(&root(), name)?;
    work()
}

fn folder_in(root: &Path, name: &str, fill: impl FnOnce(&Path) -> Result<(), Reason>) -> Result<PathBuf, Reason> {
    let wanted = root.join(name);
    if wanted.is_dir() {
        return Ok(wanted);
    }
    let _lock = lock(root, name)?;
    if wanted.is_dir() {
        return Ok(wanted);
    }
    let partial = tempfile::Builder::new().prefix(&format!("{name}.partial-")).tempdir_in(root);
    let partial = partial.map_err(|error| format!("{}: {error}", root.display()))?;
    let filled = partial.path().join("filled");
    std::fs::create_dir(&filled).map_err(|error| format!("{}: {error}", filled.display()))?;
    fill(&filled)?;
    std::fs::rename(&filled, &wanted).map_err(|error| format!("{}: {error}", wanted.display()))?;
    Ok(wanted)
}

fn lock(root: &Path, name: &str) -> Result<File, Reason> {
    std::fs::create_dir_all(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let path = root.join(format!("{name}.lock"));
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
    let deadline = Instant::now() + LOCK_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                return Err(format!("{}: another process held it for {LOCK_LIMIT:?}", path.display()));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(10 * GLANCE),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn of_many_that_want_a_folder_one_fills_it() {
        let root = tempfile::tempdir().unwrap();
        let fills = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let folder = folder_in(root.path(), "x", |folder| {
                        fills.fetch_add(1, Ordering::SeqCst);
                        std::fs::write(folder.join("file"), "complete").map_err(|error| error.to_string())
                    });
                    assert_eq!(std::fs::read_to_string(folder.unwrap().join("file")).unwrap(), "complete");
                });
            }
        });
        assert_eq!(fills.into_inner(), 1);
    }

    #[test]
    fn a_failed_fill_leaves_nothing_and_can_be_tried_again() {
        let root = tempfile::tempdir().unwrap();
        let failed = folder_in(root.path(), "x", |folder| {
            std::fs::write(folder.join("half"), "").unwrap();
            Err("cut short".into())
        });
        assert_eq!(failed.unwrap_err(), "cut short");
        assert!(!root.path().join("x").exists());
        let folder = folder_in(root.path(), "x", |_| Ok(())).unwrap();
        assert!(!folder.join("half").exists());
    }
}
