//! [`Cost`]: what a piece of work takes, in wall time and in this process's own processor time.

use std::{
    fs, io,
    ops::Add,
    path::Path,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// How the names of the threads begin that clients start for themselves: `lapin` and librdkafka. The `redis` crate has none.
const OF_CLIENTS: [&str; 2] = ["lapin", "rdk:"];

/// A point in all three times.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    wall: Instant,
    cpu: Duration,
    runtime: Duration,
}

/// The stretch between two marks.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// Of all threads of this process; the broker is another one.
    pub(crate) cpu: Duration,
    /// Of those threads that are not a client's own.
    pub(crate) runtime: Duration,
}

impl Mark {
    pub(crate) fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::new(cpu.tv_sec.unsigned_abs(), u32::try_from(cpu.tv_nsec).unwrap_or(0));
        // Where threads cannot be told apart, all of them are.
        Self { wall: Instant::now(), cpu, runtime: of_the_runtime().unwrap_or(cpu) }
    }

    pub(crate) fn since(self, earlier: Self) -> Cost {
        Cost {
            wall: self.wall - earlier.wall,
            cpu: self.cpu.saturating_sub(earlier.cpu),
            runtime: self.runtime.saturating_sub(earlier.runtime),
        }
    }
}

/// What the threads have taken that are not a client's own. They live as long as this process, so that none is missing at
/// the second mark.
fn of_the_runtime() -> io::Result<Duration> {
    let mut taken = Duration::ZERO;
    for thread in fs::read_dir("/proc/self/task")? {
        taken += of_thread(&thread?.path()).unwrap_or_default();
    }
    Ok(taken)
}

/// `None` if the thread is a client's, or has ended.
fn of_thread(thread: &Path) -> Option<Duration> {
    let name = fs::read_to_string(thread.join("comm")).ok()?;
    if OF_CLIENTS.iter().any(|client| name.starts_with(client)) {
        return None;
    }
    // The first figure is the time on a processor, in nanoseconds (Linux's sched-stats).
    let stat = fs::read_to_string(thread.join("schedstat")).ok()?;
    Some(Duration::from_nanos(stat.split(' ').next()?.parse().ok()?))
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { wall: self.wall + other.wall, cpu: self.cpu + other.cpu, runtime: self.runtime + other.runtime }
    }
}

impl Cost {
    pub(crate) fn per_second(self, messages: u64) -> f64 {
        messages as f64 / self.wall.as_secs_f64()
    }
}

/// So much of each message.
pub(crate) fn nanos_per_message(cpu: Duration, messages: u64) -> f64 {
    cpu.as_secs_f64() * 1e9 / messages as f64
}
