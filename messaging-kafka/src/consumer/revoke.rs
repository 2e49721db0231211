//! Giving partitions up: drained, committed, and only then unassigned; or lost, and then at once.
//!
//! The client calls back and goes on polling; the assignment changes when the executor has let go. Until then the client
//! fetches nothing, so that a drain is short.

use std::time::{Duration, Instant};

use rdkafka::{TopicPartitionList, consumer::Consumer};

use super::{
    context::{give_up, places},
    event::Event,
    pump::Pump,
    tenure::Phase,
};

/// How long the last commit of drained partitions may take.
const LAST_COMMIT: Duration = Duration::from_secs(3);

/// Partitions that the coordinator wants back.
pub(super) struct Revoking {
    pub(super) partitions: TopicPartitionList,
    /// Since when all of them are drained.
    drained: Option<Instant>,
}

impl Pump {
    /// The coordinator wants partitions back, or they are lost already.
    pub(super) fn revoke(&mut self, partitions: TopicPartitionList, lost: bool) {
        tracing::debug!(count = partitions.count(), lost, "partitions are revoked");
        for (topic, partition) in places(&partitions) {
            let Some(tenure) = self.tenures.find_mut(&topic, partition) else { continue };
            match tenure.phase {
                Phase::Held if lost => {
                    self.events.push(Event::Lost(tenure.id));
                }
                Phase::Held => {
                    tenure.phase = Phase::Draining;
                    self.events.push(Event::Revoking(tenure.id));
                    continue;
                }
                Phase::Draining if lost => self.events.push(Event::Lost(tenure.id)),
                Phase::Drained if !lost => continue,
                Phase::Draining => continue,
                Phase::Adopting { .. } | Phase::Drained => {}
            }
            let slot = tenure.id.slot;
            self.tenures.remove(slot);
            if let Some(adopting) = &mut self.adopting {
                adopting.forget(slot);
            }
        }
        if lost {
            self.unassign(&partitions);
        } else {
            self.revoking = Some(Revoking { partitions, drained: None });
        }
    }

    /// Lets drained partitions go once their progress is committed.
    pub(super) fn finish_revocation(&mut self) {
        let Some(mut revoking) = self.revoking.take() else { return self.adopt_again() };
        if self.consumer.assignment_lost() {
            // Between the call and the drain's end the session ran out.
            return self.revoke(revoking.partitions, true);
        }
        let asked = places(&revoking.partitions);
        let is_asked =
            |tenure: &super::tenure::Tenure| asked.iter().any(|(topic, partition)| tenure.is(topic, *partition));
        let busy = self.tenures.iter().any(|tenure| is_asked(tenure) && !matches!(tenure.phase, Phase::Drained));
        if busy {
            self.revoking = Some(revoking);
            return;
        }
        let since = *revoking.drained.get_or_insert_with(Instant::now);
        let dirty = self.tenures.iter().any(|tenure| is_asked(tenure) && tenure.dirty);
        if (dirty || !self.commits.is_idle()) && since.elapsed() < LAST_COMMIT {
            self.revoking = Some(revoking);
            return;
        }
        if dirty {
            tracing::warn!("partitions go without their last commit: what it lacks comes again elsewhere");
        }
        let slots: Vec<u32> =
            self.tenures.iter().filter(|tenure| is_asked(tenure)).map(|tenure| tenure.id.slot).collect();
        for slot in slots {
            self.tenures.remove(slot);
        }
        self.unassign(&revoking.partitions);
    }

    /// Partitions that the executor gave up without being asked are taken up again, from what is committed.
    fn adopt_again(&mut self) {
        if !self.commits.is_idle() {
            return;
        }
        for tenure in self.tenures.iter_mut() {
            if matches!(tenure.phase, Phase::Drained) && !tenure.dirty {
                tenure.id.epoch = 0;
                tenure.phase = Phase::Adopting { at: Instant::now() + Duration::from_secs(1) };
            }
        }
    }

    /// Tells the client that partitions are given up.
    pub(super) fn unassign(&self, partitions: &TopicPartitionList) {
        if let Err(error) = give_up(&self.consumer, partitions) {
            tracing::warn!(%error, "the client did not give partitions up");
        }
    }
}
