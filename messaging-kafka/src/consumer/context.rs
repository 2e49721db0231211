//! [`Context`]: takes note of what librdkafka calls back, for the pump to act on outside the callback.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rdkafka::{
    TopicPartitionList,
    client::ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::RDKafkaRespErr,
};

use super::resolve::list_of;
use crate::log;

/// Offsets with a name for each partition.
pub(super) type Place = (String, i32);

/// What the group's coordinator has decided about this member.
#[derive(Debug)]
pub(super) enum Rebalance {
    /// These partitions are ours.
    Assigned(TopicPartitionList),
    /// These are to be given up, and others wait for it; or they are lost already.
    Revoked { partitions: TopicPartitionList, lost: bool },
}

#[derive(Default)]
pub(super) struct Context {
    /// Grows with everything that is noted, and with what needs no note.
    activity: AtomicU64,
    rebalances: Mutex<Vec<Rebalance>>,
    /// The coordinator has answered: this is a member, if without any partition.
    joined: AtomicBool,
    /// Nothing is drained any more: partitions go as they are asked for.
    closing: AtomicBool,
}

impl Context {
    /// A number that has changed if anything was called back since.
    pub(super) fn activity(&self) -> u64 {
        self.activity.load(Ordering::Relaxed)
    }

    pub(super) fn take_rebalances(&self) -> Vec<Rebalance> {
        std::mem::take(&mut *self.rebalances.lock())
    }

    pub(super) fn has_rebalances(&self) -> bool {
        !self.rebalances.lock().is_empty()
    }

    pub(super) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    fn note(&self) {
        self.activity.fetch_add(1, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.note();
        log::line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.note();
        log::client_error(&error, reason);
    }

    fn stats_raw(&self, _: &[u8]) {
        self.note();
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        self.note();
        let closing = self.closing.load(Ordering::Acquire);
        let assigned = err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if assigned {
            self.joined.store(true, Ordering::Release);
        }
        let done = match (assigned, closing) {
            (true, true) => take_note_of_an_assignment(consumer),
            (false, true) => give_up(consumer, partitions),
            (true, false) => {
                self.rebalances.lock().push(Rebalance::Assigned(partitions.clone()));
                Ok(())
            }
            (false, false) => {
                let lost = consumer.assignment_lost();
                self.rebalances.lock().push(Rebalance::Revoked { partitions: partitions.clone(), lost });
                Ok(())
            }
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the client did not take a change of its assignment");
        }
    }
}

/// Answers the coordinator's assignment. The client adds nothing yet: a partition is added when it is known where it
/// begins.
pub(super) fn take_note_of_an_assignment(consumer: &BaseConsumer<Context>) -> KafkaResult<()> {
    consumer.incremental_assign(&TopicPartitionList::new())
}

/// Answers a revocation: takes away those of the partitions that the client has; it refuses a list with any other.
pub(super) fn give_up(consumer: &BaseConsumer<Context>, partitions: &TopicPartitionList) -> KafkaResult<()> {
    let has = places(&consumer.assignment()?);
    let gone: Vec<Place> = places(partitions).into_iter().filter(|place| has.contains(place)).collect();
    consumer.incremental_unassign(&list_of(&gone))
}

/// The partitions of a list.
pub(super) fn places(list: &TopicPartitionList) -> Vec<Place> {
    list.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect()
}
