//! What a worker tells the metrics: once a round and metric, however many deliveries there were.

use super::worker::Worker;
use crate::time::{Clock, Tick};

impl Worker {
    /// Reports what the round did.
    pub(super) fn report_round(&mut self, started: Tick) {
        let at_once: usize = self.routes.iter().map(|route| route.tally.at_once).sum();
        self.wall = None;
        // What ended at its first poll is not timed one by one: a reading of the clock may cost more than the handler.
        let each = (at_once > 0).then(|| self.shared.clock.now().since(started).as_secs_f64() / at_once as f64);
        self.routes.iter_mut().for_each(|route| route.report(each));
        if self.skipped > 0 {
            self.shared.meter.skipped.increment(std::mem::take(&mut self.skipped));
        }
    }
}
