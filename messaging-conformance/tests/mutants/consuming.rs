//! [`MutantConsumer`]: settles early, ignores revocations, has no way to write dead letters that could be relied on.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use messaging::{Consumer, DeadLetterSink, Error, Intake, PartitionHandle, Position, Settlement};

use crate::mutant::Mutation;

/// How many must have overtaken a message for it to be settled unfinished.
const MANY: usize = 8;

pub(crate) struct MutantConsumer {
    inner: Box<dyn Consumer>,
    mutation: Mutation,
    joins: Arc<AtomicUsize>,
    /// How many had joined when it looked last.
    known_joins: usize,
    partitions: HashMap<PartitionHandle, Held>,
}

/// What it knows of one assignment.
struct Held {
    epoch: u64,
    /// Positions that were overtaken, and by how many that were finished.
    gaps: BTreeMap<u64, usize>,
    /// One more than the highest position that was finished.
    next: Option<u64>,
    /// The bus has it back, and the executor does not know.
    let_go: bool,
}

impl Held {
    fn new(epoch: u64) -> Self {
        Self { epoch, gaps: BTreeMap::new(), next: None, let_go: false }
    }

    /// Notes what was finished, and answers what has been overtaken so often that it is settled with it.
    fn finish(&mut self, finished: &[Position]) -> Vec<Position> {
        for position in finished.iter().map(|position| position.major) {
            self.gaps.remove(&position);
            let next = self.next.get_or_insert(position);
            self.gaps.extend((*next..position).map(|passed| (passed, 0)));
            *next = (*next).max(position + 1);
            self.gaps.range_mut(..position).for_each(|(_, overtaken)| *overtaken += 1);
        }
        self.gaps
            .extract_if(.., |_, overtaken| *overtaken >= MANY)
            .map(|(position, _)| Position::new(position))
            .collect()
    }
}

impl MutantConsumer {
    pub(crate) fn new(inner: Box<dyn Consumer>, mutation: Mutation, joins: Arc<AtomicUsize>) -> Self {
        let known_joins = joins.load(Ordering::Relaxed);
        Self { inner, mutation, joins, known_joins, partitions: HashMap::new() }
    }

    fn held(&mut self, settlement: &Settlement<'_>) -> &mut Held {
        let held = self.partitions.entry(settlement.partition).or_insert_with(|| Held::new(settlement.epoch));
        if held.epoch != settlement.epoch {
            *held = Held::new(settlement.epoch);
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
        let early: Vec<Position> = [settlement.finished, &held.finish(settlement.finished)].concat();
        let mut settlement = settlement;
        if mutation == Mutation::SettlesEarly {
            settlement.finished = &early;
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
