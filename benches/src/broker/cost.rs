//! [`Cost`]: what a piece of work takes, in wall time and in this process's own processor time.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A point in both times.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    wall: Instant,
    cpu: Duration,
}

/// The stretch between two marks.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// Of all threads of this process; the broker is another one.
    pub(crate) cpu: Duration,
}

impl Mark {
    pub(crate) fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::new(cpu.tv_sec.unsigned_abs(), u32::try_from(cpu.tv_nsec).unwrap_or(0));
        Self { wall: Instant::now(), cpu }
    }

    pub(crate) fn since(self, earlier: Self) -> Cost {
        Cost { wall: self.wall - earlier.wall, cpu: self.cpu.saturating_sub(earlier.cpu) }
    }
}

impl Cost {
    pub(crate) fn per_second(self, messages: u64) -> f64 {
        messages as f64 / self.wall.as_secs_f64()
    }

    pub(crate) fn cpu_nanos_per_message(self, messages: u64) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / messages as f64
    }
}
