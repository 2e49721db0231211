//! [`MutantConsumer`]: settles early, ignores revocations, has no way to write dead letters that could be relied on.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use messaging::{Consumer, DeadLetterSink, Error, Intake, PartitionHandle, Position, Settlement};

use crate::mutant::Mutation;

/// How long a message is waited for before it is settled unfinished.
const LONG: Duration = Duration::from_millis(30);

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
    /// Positions that were passed by one that was finished, and since when.
    gaps: BTreeMap<u64, Instant>,
    /// One more than the highest position that was finished.
    next: Option<u64>,
    /// The bus has it back, and the executor does not know.
    let_go: bool,
}

impl Held {
    fn new(epoch: u64) -> Self {
        Self { epoch, gaps: BTreeMap::new(), next: None, let_go: false }
    }

    /// Notes what was finished, and answers what has been passed for so long that it is settled with it.
    fn finish(&mut self, finished: &[Position]) -> Vec<Position> {
        let now = Instant::now();
        for position in finished.iter().map(|position| position.major) {
            self.gaps.remove(&position);
            let next = self.next.get_or_insert(position);
            self.gaps.extend((*next..position).map(|passed| (passed, now)));
            *next = (*next).max(position + 1);
        }
        let old = self.gaps.iter().filter(|(_, since)| since.elapsed() >= LONG).map(|(position, _)| *position);
        let old: Vec<u64> = old.collect();
        self.gaps.retain(|position, _| !old.contains(position));
        old.into_iter().map(Position::new).collect()
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
