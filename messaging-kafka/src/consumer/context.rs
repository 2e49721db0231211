//! [`Context`]: takes note of what librdkafka calls back, for the pump to act on outside the callback.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rdkafka::{
    TopicPartitionList,
    client::ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::{RDKafkaErrorCode as Code, RDKafkaRespErr},
};

use crate::log;

/// Offsets with a name for each partition.
pub(super) type Place = (String, i32);

/// What the group's coordinator has decided about this member.
#[derive(Debug)]
pub(super) enum Rebalance {
    /// These partitions come to us. They are assigned already, and read from nowhere yet.
    Assigned(Vec<Place>),
    /// These are to be given up, and others wait for it; or they are lost already.
    Revoked { partitions: TopicPartitionList, lost: bool },
}

/// How a commit ended: as a whole, or for each partition.
pub(super) type CommitEnd = Result<Vec<(Place, Result<(), Code>)>, KafkaError>;

#[derive(Default)]
pub(super) struct Context {
    /// Grows with everything that is noted, and with what needs no note.
    activity: AtomicU64,
    rebalances: Mutex<Vec<Rebalance>>,
    commits: Mutex<Vec<CommitEnd>>,
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

    pub(super) fn take_commits(&self) -> Vec<CommitEnd> {
        std::mem::take(&mut *self.commits.lock())
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
        let done = if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // Assigned at their end, where next to nothing is read, until it is known where to begin: the retained
            // partitions would stand still until then.
            let mut at_end = TopicPartitionList::with_capacity(partitions.count());
            for place in places(partitions) {
                at_end.add_partition(&place.0, place.1);
            }
            let done = at_end.set_all_offsets(rdkafka::Offset::End).and_then(|()| consumer.incremental_assign(&at_end));
            if !closing {
                self.rebalances.lock().push(Rebalance::Assigned(places(partitions)));
            }
            done
        } else if closing {
            consumer.incremental_unassign(partitions)
        } else {
            let lost = consumer.assignment_lost();
            self.rebalances.lock().push(Rebalance::Revoked { partitions: partitions.clone(), lost });
            Ok(())
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the client did not take a change of its assignment");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        self.note();
        let each = || {
            let elements = offsets.elements();
            let outcome = |error: KafkaError| error.rdkafka_error_code().unwrap_or(Code::Fail);
            elements
                .iter()
                .map(|element| {
                    let place = (element.topic().to_owned(), element.partition());
                    (place, element.error().map_err(outcome))
                })
                .collect::<Vec<_>>()
        };
        let end = match result {
            Ok(()) => Ok(each()),
            // One partition's refusal stands as the whole's.
            Err(error) => match each() {
                each if each.iter().any(|(_, result)| result.is_ok()) && each.iter().any(|(_, r)| r.is_err()) => Ok(each),
                _ => Err(error),
            },
        };
        self.commits.lock().push(end);
    }
}

/// The partitions of a list.
pub(super) fn places(list: &TopicPartitionList) -> Vec<Place> {
    list.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect()
}
