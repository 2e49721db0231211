//! Programs that run to their end (`initdb`, `apt-get`, `mvn`, …), with a deadline and their output kept.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::{Error, tail};
use crate::process::{GLANCE, Process};

/// Runs a program and returns what it printed, both streams together; a failure shows the end of it.
pub(crate) fn run(command: Command, limit: Duration) -> Result<String, Error> {
    let mark = format!("TEST_BROKERS_RUN={}-{:x}", std::process::id(), fastrand::u64(..));
    run_marked(command, &mark, limit)
}

/// As [`run`], with this mark in the program's environment, by which a watchdog finds it.
pub(crate) fn run_marked(command: Command, mark: &str, limit: Duration) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut output = tempfile::NamedTempFile::new().map_err(Error::io("creating a file for output"))?;
    let deadline = Instant::now() + limit;
    let mut process = Process::spawn(command, mark, output.as_file_mut())?;
    loop {
        if let Some(status) = process.ended()? {
            let text = read(output.path());
            if status.success() {
                return Ok(text);
            }
            return Err(Error::Program { program, status: status.to_string(), output: tail(&text) });
        }
        if Instant::now() > deadline {
            process.kill();
            let log = tail(&read(output.path()));
            return Err(Error::Deadline { what: program, limit, last: "it was still running".into(), log });
        }
        std::thread::sleep(GLANCE);
    }
}

/// The first file of that name that `PATH` leads to.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_executable(file))
}

pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    File::open(file)
        .and_then(|file| file.metadata())
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

fn read(path: &Path) -> String {
    std::fs::read(path).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}
