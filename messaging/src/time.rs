//! Time as the executor sees it: [`Tick`]s of an injected [`Clock`].

use std::time::Duration;

/// A point on a [`Clock`], in nanoseconds since an arbitrary start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Tick(u64);

impl Tick {
    /// A tick this long after the clock's start.
    #[inline]
    #[must_use]
    pub const fn from_start(since: Duration) -> Self {
        Self(since.as_secs().saturating_mul(1_000_000_000).saturating_add(since.subsec_nanos() as u64))
    }

    /// The time since the clock's start.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// The time from `earlier` to this tick; zero if it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Tick {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(Tick::from_start(duration).0))
    }
}

/// A duration as it is added to a [`Tick`]: for one that is added again and again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TickSpan(u64);

impl From<Duration> for TickSpan {
    fn from(duration: Duration) -> Self {
        Self(Tick::from_start(duration).0)
    }
}

impl std::ops::Add<TickSpan> for Tick {
    type Output = Self;
    #[inline]
    fn add(self, span: TickSpan) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

/// Tells the time for the gate that stops an owner whose assignment has lapsed.
pub trait Clock: Send + Sync + 'static {
    /// The present tick.
    fn now(&self) -> Tick;
}

/// The clock that goes on while the machine is suspended: `CLOCK_BOOTTIME` on Linux and Android; elsewhere the
/// nearest there is, Rust's monotonic clock, which may stand still during a suspend.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootClock;

impl Clock for BootClock {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn now(&self) -> Tick {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Tick::from_start(Duration::new(seconds, nanos))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn now(&self) -> Tick {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        Tick::from_start(START.get_or_init(std::time::Instant::now).elapsed())
    }
}

/// Tokio's clock, which a test can pause and advance. Ticks of one value and its copies can be compared.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    start: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that starts a little before now: under a paused clock the runtime's time may lag behind the real time
    /// at which this value was made, and a tick must not fall before the start.
    #[must_use]
    pub fn new() -> Self {
        let now = tokio::time::Instant::now();
        Self { start: now.checked_sub(Duration::from_secs(3600)).unwrap_or(now) }
    }

    /// The instant of a tick, to sleep until.
    #[must_use]
    pub fn instant(&self, tick: Tick) -> tokio::time::Instant {
        self.start + tick.since_start()
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Tick {
        Tick::from_start(tokio::time::Instant::now().saturating_duration_since(self.start))
    }
}
