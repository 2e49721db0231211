//! Ends a broker whose owner died, even by `kill -9`.
//!
//! A signal on the parent's death (`PR_SET_PDEATHSIG`) would fire when the *thread* that started the broker ends, and
//! would miss what the broker itself started. So each node has a small shell process that reads a pipe whose only
//! writing end this process holds: when the kernel closes it, the shell ends the node's processes and removes its folder.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::error::Error;

/// The watchdog of one node.
#[derive(Debug)]
pub(crate) struct Watchdog {
    process: Child,
    pipe: ChildStdin,
}

impl Watchdog {
    pub(crate) fn start(folder: &Path, mark: &str, container: Option<&str>) -> Result<Self, Error> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", include_str!("watchdog.sh"), "test-brokers-watchdog"]);
        command.arg(folder).arg(mark);
        if let Some(container) = container {
            command.args(["docker", container]);
        }
        // Its own process group: Ctrl-C in a terminal must end the owner, not the watchdog.
        command.process_group(0).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().map_err(Error::io("starting a watchdog"))?;
        let pipe = process.stdin.take().ok_or_else(|| {
            let no_pipe = std::io::Error::other("it has no standard input");
            Error::io("starting a watchdog")(no_pipe)
        })?;
        Ok(Self { process, pipe })
    }

    /// From now on, this process and all that belongs to it end with the owner.
    pub(crate) fn watch(&mut self, pid: i32, start: u64) -> Result<(), Error> {
        writeln!(self.pipe, "{pid} {start}").map_err(Error::io("telling the watchdog"))
    }

    /// Nothing runs; the folder still goes with the owner.
    pub(crate) fn rest(&mut self) -> Result<(), Error> {
        self.watch(0, 0)
    }

    /// Everything is gone already.
    pub(crate) fn end(mut self) {
        // If the shell is gone, it has nothing left to do either.
        let _ = writeln!(self.pipe, "end");
        drop(self.pipe);
        let _ = self.process.wait();
    }
}
