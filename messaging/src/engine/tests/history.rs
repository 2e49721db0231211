//! [`History`]: holds what happened against the delivery contract, for one instance. It knows lanes, not schedulers.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::broker::Lane;
use crate::{delivery::Position, engine::EntryId, time::Tick};

#[derive(Default)]
pub(super) struct History {
    /// Starts that are out, also of assignments that are gone.
    out: HashMap<Lane, EntryId>,
    assignments: HashMap<usize, Assignment>,
    pub(super) starts: u64,
    /// Grows with whatever brings a delivery nearer to its end.
    pub(super) progress: u64,
}

/// One log, for as long as it is ours.
struct Assignment {
    epoch: u64,
    revoked: bool,
    valid_until: Option<Tick>,
    /// Each lane's deliveries that have not ended, in the order of the log.
    lanes: HashMap<Lane, VecDeque<Position>>,
    delivered: Vec<Position>,
    unfinished: BTreeSet<Position>,
    unsettled: BTreeSet<Position>,
    /// The watermark, and what is finished above it.
    finished: BTreeSet<Position>,
    parked: HashMap<Position, Tick>,
    running: usize,
}

/// One start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Started {
    pub(super) id: EntryId,
    pub(super) log: usize,
    pub(super) epoch: u64,
    pub(super) position: Position,
    pub(super) lane: Lane,
    /// To be dead-lettered before its time.
    pub(super) crowded: bool,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    /// It holds its lane, and is started again at this time.
    Parked(Tick),
    /// It comes back from the broker.
    Dropped,
    /// It was never begun.
    GivenBack,
}

impl History {
    pub(super) fn assigned(&mut self, log: usize, epoch: u64) {
        self.progress += 1;
        let fresh = Assignment {
            epoch,
            revoked: false,
            valid_until: None,
            lanes: HashMap::new(),
            delivered: Vec::new(),
            unfinished: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            finished: BTreeSet::new(),
            parked: HashMap::new(),
            running: 0,
        };
        assert!(self.assignments.insert(log, fresh).is_none(), "log {log} was ours already");
    }

    pub(super) fn renewed(&mut self, log: usize, valid_until: Tick) {
        self.of(log).valid_until = Some(valid_until);
    }

    pub(super) fn delivered(&mut self, log: usize, position: Position, lane: Lane) {
        self.progress += 1;
        let assignment = self.of(log);
        assignment.delivered.push(position);
        assignment.unfinished.insert(position);
        assignment.lanes.entry(lane).or_default().push_back(position);
    }

    /// `gate` is the present time on the clock of validity, if the worker asked it.
    pub(super) fn started(&mut self, start: Started, now: Tick, gate: Option<Tick>) {
        self.starts += 1;
        let before = self.out.insert(start.lane, start.id);
        assert!(before.is_none(), "two of a lane are out: {before:?} and {start:?}");
        let assignment = self.assignments.get_mut(&start.log);
        let assignment = assignment.unwrap_or_else(|| panic!("start on a partition that is not ours: {start:?}"));
        assert_eq!(assignment.epoch, start.epoch, "start under another epoch: {start:?}");
        assert!(!assignment.revoked, "start on a revoked partition: {start:?}");
        if let Some(valid_until) = assignment.valid_until {
            let in_time = gate.is_some_and(|now| now < valid_until);
            assert!(in_time, "start at {gate:?}, valid until {valid_until:?}: {start:?}");
        }
        let head = assignment.lanes.get(&start.lane).and_then(VecDeque::front);
        assert_eq!(head, Some(&start.position), "out of order in its lane: {start:?}");
        if let Some(due) = assignment.parked.remove(&start.position) {
            assert!(now >= due || start.crowded, "woken at {now:?}, due at {due:?}: {start:?}");
        }
        assignment.running += 1;
    }

    pub(super) fn ended(&mut self, start: Started, end: End) {
        self.progress += 1;
        assert_eq!(self.out.remove(&start.lane), Some(start.id), "ended, and was not out");
        let Some(assignment) = self.assignments.get_mut(&start.log).filter(|ours| ours.epoch == start.epoch) else {
            return;
        };
        assignment.running -= 1;
        if let End::Parked(until) = end {
            assignment.parked.insert(start.position, until);
        }
        if end == End::Finished {
            let head = assignment.lanes.get_mut(&start.lane).and_then(VecDeque::pop_front);
            assert_eq!(head, Some(start.position));
            assert!(assignment.unfinished.remove(&start.position), "finished twice: {start:?}");
            assignment.unsettled.insert(start.position);
            assignment.finished.insert(start.position);
        }
    }

    pub(super) fn revoked(&mut self, log: usize) {
        self.of(log).revoked = true;
    }

    /// A start ended with its partition being given up, if that is still ours.
    pub(super) fn given_up(&mut self, start: Started) {
        if let Some(assignment) = self.assignments.get_mut(&start.log).filter(|ours| ours.epoch == start.epoch) {
            assignment.revoked = true;
        }
    }

    pub(super) fn lost(&mut self, log: usize) {
        self.assignments.remove(&log);
    }

    pub(super) fn settled(&mut self, log: usize, epoch: u64, finished: &[Position], through: Option<Position>) {
        self.progress += finished.len() as u64;
        let assignment = self.of(log);
        assert_eq!(assignment.epoch, epoch, "settled under another epoch");
        for position in finished {
            assert!(!assignment.unfinished.contains(position), "settled before it was finished: {position}");
            assert!(assignment.unsettled.remove(position), "settled twice, or never delivered: {position}");
        }
        let oldest = assignment.unfinished.first();
        let mut reached = assignment.finished.iter().rev();
        let expected = reached.find(|position| oldest.is_none_or(|oldest| *position < oldest));
        assert_eq!(through.as_ref(), expected, "watermark; the oldest unfinished is {oldest:?}");
        // Below the watermark nothing matters any more.
        if let Some(through) = through {
            assignment.finished = assignment.finished.split_off(&through);
        }
    }

    /// After a settlement nothing that was finished is left unsettled.
    pub(super) fn all_is_settled(&self) {
        for (log, assignment) in &self.assignments {
            assert!(assignment.unsettled.is_empty(), "not settled of log {log}: {:?}", assignment.unsettled);
        }
    }

    pub(super) fn released(&mut self, log: usize) {
        self.progress += 1;
        let Some(assignment) = self.assignments.remove(&log) else { panic!("log {log} released, and not ours") };
        assert!(assignment.revoked, "log {log} released, and nobody gave it up");
        assert_eq!(assignment.running, 0, "log {log} released while it runs");
        assert!(assignment.unsettled.is_empty(), "log {log} released before it was settled");
    }

    /// The revoked partitions of which nothing runs: they are to be released.
    pub(super) fn drained(&self) -> impl Iterator<Item = usize> {
        let drained = self.assignments.iter().filter(|(_, assignment)| assignment.revoked && assignment.running == 0);
        drained.map(|(log, _)| *log)
    }

    /// How many deliveries are held: waiting, parked or out.
    pub(super) fn in_flight(&self) -> usize {
        let assigned = self.assignments.values().filter(|assignment| !assignment.revoked);
        self.out.len() + assigned.map(|assignment| assignment.unfinished.len() - assignment.running).sum::<usize>()
    }

    /// How many deliveries of a log lie between its watermark and the newest.
    pub(super) fn span(&mut self, log: usize) -> usize {
        let assignment = self.of(log);
        let Some(oldest) = assignment.unfinished.first() else { return 0 };
        assignment.delivered.len() - assignment.delivered.partition_point(|position| position < oldest)
    }

    pub(super) fn is_revoked(&self, log: usize) -> bool {
        self.assignments.get(&log).is_some_and(|assignment| assignment.revoked)
    }

    /// Whether this start is of an assignment that is gone.
    pub(super) fn is_lost(&self, start: &Started) -> bool {
        self.assignments.get(&start.log).is_none_or(|ours| ours.epoch != start.epoch)
    }

    fn of(&mut self, log: usize) -> &mut Assignment {
        self.assignments.get_mut(&log).unwrap_or_else(|| panic!("log {log} is not ours"))
    }
}
