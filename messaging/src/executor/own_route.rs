//! [`OwnRoute`]: a route as one worker has it, so that a delivery looks in one place for all that it needs.

use std::time::Duration;

use super::{RouteInfo, Slots};
use crate::{
    telemetry::RouteMeter,
    time::{Tick, TickSpan},
    timestamp::Timestamp,
};

pub(super) struct OwnRoute {
    pub(super) slots: Box<dyn Slots>,
    /// How long the handler may run, unless it keeps its timeout itself.
    timeout: Option<TickSpan>,
    pub(super) tally: Tally,
    meter: RouteMeter,
}

/// What a route did since it was last reported.
#[derive(Default)]
pub(super) struct Tally {
    handled: u64,
    /// Of these, how many ended at their first poll of this round.
    pub(super) at_once: usize,
}

impl OwnRoute {
    pub(super) fn new(slots: Box<dyn Slots>, info: &RouteInfo) -> Self {
        let timeout = (!info.keeps_timeout).then(|| TickSpan::from(info.policy.timeout));
        Self { slots, timeout, tally: Tally::default(), meter: info.meter.clone() }
    }

    /// When a handler that starts now is to be cut short.
    #[inline(always)]
    pub(super) fn timeout_after(&self, now: Tick) -> Option<Tick> {
        self.timeout.map(|timeout| now + timeout)
    }

    /// A handler ended well at its first poll.
    #[inline(always)]
    pub(super) fn ended_at_once(&mut self) {
        self.tally.handled += 1;
        self.tally.at_once += 1;
    }

    /// A handler ended well that had started in an earlier round.
    #[inline(always)]
    pub(super) fn ended_later(&mut self, after: Duration) {
        self.tally.handled += 1;
        self.meter.seconds.record(after.as_secs_f64());
    }

    /// An event of this time was handled. `wall` is the system's time in this round, once it was asked for.
    #[inline(always)]
    pub(super) fn record_age(&self, time: Option<Timestamp>, wall: &mut Option<Timestamp>) {
        if let Some(time) = time {
            let wall = *wall.get_or_insert_with(Timestamp::now);
            self.meter.age.record(time.age_seconds(wall));
        }
    }

    /// Reports what was done since the last report; `each` is how long each took that ended at once.
    #[inline]
    pub(super) fn report(&mut self, each: Option<f64>) {
        if self.tally.handled > 0 {
            self.meter.handled.increment(std::mem::take(&mut self.tally.handled));
        }
        let at_once = std::mem::take(&mut self.tally.at_once);
        if let Some(each) = each
            && at_once > 0
        {
            self.meter.seconds.record_many(each, at_once);
        }
    }
}
