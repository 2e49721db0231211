//! What a worker tells the metrics: once a round and metric, however many deliveries there were.

use super::worker::Worker;
use crate::{
    envelope::Timestamp,
    time::{Clock, Tick},
};

/// What one route did since it was last reported.
#[derive(Default)]
pub(super) struct Tally {
    handled: u64,
    /// Of these, how many ended at their first poll of this round.
    at_once: usize,
}

impl Tally {
    #[inline]
    pub(super) fn ended_at_once(&mut self) {
        self.handled += 1;
        self.at_once += 1;
    }

    #[inline]
    pub(super) fn ended_later(&mut self) {
        self.handled += 1;
    }
}

impl Worker {
    #[inline(always)]
    pub(super) fn record_age(&mut self, route: usize, time: Option<Timestamp>) {
        if let Some(time) = time {
            let wall = *self.wall.get_or_insert_with(Timestamp::now);
            self.shared.routes[route].meter.age.record(time.age_seconds(wall));
        }
    }

    /// Reports what the round did.
    pub(super) fn report_round(&mut self, started: Tick) {
        let at_once: usize = self.tallies.iter().map(|tally| tally.at_once).sum();
        self.wall = None;
        // What ended at its first poll is not timed one by one: a reading of the clock may cost more than the handler.
        let each = (at_once > 0).then(|| self.shared.clock.now().since(started).as_secs_f64() / at_once as f64);
        for (tally, info) in self.tallies.iter_mut().zip(&self.shared.routes) {
            if tally.handled > 0 {
                info.meter.handled.increment(std::mem::take(&mut tally.handled));
            }
            let at_once = std::mem::take(&mut tally.at_once);
            if let Some(each) = each
                && at_once > 0
            {
                info.meter.seconds.record_many(each, at_once);
            }
        }
        if self.skipped > 0 {
            self.shared.meter.skipped.increment(std::mem::take(&mut self.skipped));
        }
    }
}
