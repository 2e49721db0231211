//! A running program with everything it started: signalled, frozen and killed as one.
//!
//! A process group is not enough: PostgreSQL's backends, Erlang's port programs and its port mapper leave it. So a
//! program's processes are its group, its descendants, and whatever carries its mark in the environment.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::Error;

/// How often a state is looked at that the kernel gives no event for.
pub(crate) const GLANCE: Duration = Duration::from_millis(10);

/// A spawned program and what belongs to it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: i32,
    start: u64,
    mark: String,
}

impl Process {
    /// Starts a program as the leader of a process group of its own; its output goes to the log.
    pub(crate) fn spawn(mut command: Command, mark: &str, log: &File) -> Result<Self, Error> {
        let name = command.get_program().to_string_lossy().into_owned();
        let (mark_name, mark_value) = mark.split_once('=').unwrap_or((mark, ""));
        command.env(mark_name, mark_value).process_group(0).stdin(Stdio::null());
        let copy = |what| log.try_clone().map_err(Error::io(format!("{what} of {name}")));
        command.stdout(copy("output")?).stderr(copy("errors")?);
        let child = command.spawn().map_err(Error::io(format!("starting {name}")))?;
        let pid = i32::try_from(child.id()).map_err(|_| {
            let odd = std::io::Error::other("its number is out of range");
            Error::io(format!("starting {name}"))(odd)
        })?;
        let start = Stat::read(pid).map_or(0, |stat| stat.start);
        Ok(Self { child, pid, start, mark: mark.into() })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// How the leader ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().map_err(Error::io("waiting for a broker"))
    }

    /// Sends the leader a signal: the polite way to ask for a stop.
    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid, signal);
    }

    /// Freezes all its processes, and returns when none of them runs any more.
    pub(crate) fn freeze(&self) -> bool {
        self.until_none(Duration::from_secs(10), Signal::STOP, |stat| !stat.is_over() && !stat.is_frozen())
    }

    /// Lets frozen processes go on.
    pub(crate) fn thaw(&self) -> bool {
        self.until_none(Duration::from_secs(10), Signal::CONT, Stat::is_frozen)
    }

    /// Kills all its processes at once, and returns when none is left.
    pub(crate) fn kill(&mut self) -> bool {
        // Frozen first: nothing can start, notice or clean up anything while the others die.
        self.freeze();
        let gone = self.until_none(Duration::from_secs(20), Signal::KILL, |stat| !stat.is_over());
        gone && self.child.wait().is_ok()
    }

    /// Signals the processes that still are something, until none is.
    fn until_none(&self, limit: Duration, signal: Signal, still: impl Fn(&Stat) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut known = BTreeSet::new();
        loop {
            let mut left = false;
            for stat in self.members(&mut known) {
                if still(&stat) {
                    left = true;
                    send(stat.pid, signal);
                }
            }
            if !left {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Its processes now. `known` remembers those whose parent may die before them, by number and start time.
    fn members(&self, known: &mut BTreeSet<(i32, u64)>) -> Vec<Stat> {
        let all = Stat::all();
        // Once the leader is waited for and its group empty, the number may be someone else's.
        let is_other = all.iter().any(|stat| stat.pid == self.pid && stat.start != self.start);
        let mut pids: BTreeSet<_> = all
            .iter()
            .filter(|stat| {
                (stat.group == self.pid && !is_other)
                    || known.contains(&(stat.pid, stat.start))
                    || is_marked(stat.pid, &self.mark)
            })
            .map(|stat| stat.pid)
            .collect();
        loop {
            let children: Vec<_> = all.iter().filter(|stat| pids.contains(&stat.parent)).map(|stat| stat.pid).collect();
            let before = pids.len();
            pids.extend(children);
            if pids.len() == before {
                break;
            }
        }
        let members: Vec<_> = all.into_iter().filter(|stat| pids.contains(&stat.pid)).collect();
        known.extend(members.iter().map(|stat| (stat.pid, stat.start)));
        members
    }
}

/// What `/proc/PID/stat` says of a process.
struct Stat {
    pid: i32,
    state: u8,
    parent: i32,
    group: i32,
    threads: u32,
    start: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything, so count from its end.
        let fields: Vec<_> = text[text.rfind(')')? + 1..].split_whitespace().collect();
        Some(Self {
            pid,
            state: fields.first()?.bytes().next()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            threads: fields.get(17)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }

    fn all() -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter_map(Self::read).collect()
    }

    /// The leading thread shows as a zombie while others still end, and keep sockets and memory so long.
    fn is_over(&self) -> bool {
        matches!(self.state, b'Z' | b'X') && self.threads <= 1
    }

    fn is_frozen(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

fn is_marked(pid: i32, mark: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
}

/// Whether a process still is the one that started at that time.
#[must_use]
pub fn is_alive(pid: i32, start: u64) -> bool {
    Stat::read(pid).is_some_and(|stat| stat.start == start && !stat.is_over())
}

/// When a process started, in the kernel's ticks since boot: with its number, this names it for good.
#[must_use]
pub fn started_at(pid: i32) -> Option<u64> {
    Stat::read(pid).map(|stat| stat.start)
}

fn send(pid: i32, signal: Signal) {
    // A process that is gone already needs no signal; any other refusal shows in the wait that follows.
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}
