//! [`MutantConsumer`]: settles early, ignores revocations, has no way to write dead letters that could be relied on.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use messaging::{Consumer, DeadLetterSink, Error, Intake, PartitionHandle, Position, Settlement};

use crate::mutant::Mutation;

pub(crate) struct MutantConsumer {
    inner: Box<dyn Consumer>,
    mutation: Mutation,
    joins: Arc<AtomicUsize>,
    /// How many had joined when it looked last.
    known_joins: usize,
    /// By handle: the epoch, and the first position that was not settled.
    partitions: HashMap<PartitionHandle, Held>,
}

struct Held {
    epoch: u64,
    settled_below: Option<u64>,
    /// The bus has it back, and the executor does not know.
    let_go: bool,
}

impl MutantConsumer {
    pub(crate) fn new(inner: Box<dyn Consumer>, mutation: Mutation, joins: Arc<AtomicUsize>) -> Self {
        let known_joins = joins.load(Ordering::Relaxed);
        Self { inner, mutation, joins, known_joins, partitions: HashMap::new() }
    }

    fn held(&mut self, settlement: &Settlement<'_>) -> &mut Held {
        let new = Held { epoch: settlement.epoch, settled_below: None, let_go: false };
        let held = self.partitions.entry(settlement.partition).or_insert(new);
        if held.epoch != settlement.epoch {
            *held = Held { epoch: settlement.epoch, settled_below: None, let_go: false };
        }
        held
    }
}

impl Consumer for MutantConsumer {
    fn poll_fill(&mut self, cx: &mut Context<'_>, intake: &mut Intake<'_>) -> Poll<Result<(), Error>> {
        let joins = self.joins.load(Ordering::Relaxed);
        if self.mutation == Mutation::IgnoresRevoke && joins != std::mem::replace(&mut self.known_joins, joins) {
            for (handle, held) in &mut self.partitions {
                if !std::mem::replace(&mut held.let_go, true) {
                    self.inner.release(*handle);
                }
            }
        }
        self.inner.poll_fill(cx, intake)
    }

    fn settle(&mut self, settlement: Settlement<'_>) {
        let mutation = self.mutation;
        let held = self.held(&settlement);
        if held.let_go {
            return;
        }
        let highest = settlement.finished.iter().map(|position| position.major).max();
        let lowest = settlement.finished.iter().map(|position| position.major).min();
        let from = held.settled_below.or(lowest).unwrap_or(0);
        let through = highest.unwrap_or(0);
        held.settled_below = Some((through + 1).max(from));
        let early: Vec<Position> = (from..=through).map(Position::new).collect();
        let mut settlement = settlement;
        if mutation == Mutation::SettlesEarly {
            settlement.finished = &early;
            settlement.through = Some(Position::new(through));
        }
        self.inner.settle(settlement);
    }

    fn release(&mut self, partition: PartitionHandle) {
        let let_go = self.partitions.remove(&partition).is_some_and(|held| held.let_go);
        if !let_go {
            self.inner.release(partition);
        }
    }

    fn begin_close(&mut self) {
        self.inner.begin_close();
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_close(cx)
    }

    /// Dead letters of the one that drops them are published, where it drops them.
    fn dead_letters(&self) -> Option<Arc<dyn DeadLetterSink>> {
        self.inner.dead_letters().filter(|_| self.mutation != Mutation::DropsDeadLetter)
    }
}
