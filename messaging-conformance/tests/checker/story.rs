//! [`Story`]: writes a history line by line. One topic, one group, one partition, a position and an id per message.

use std::collections::HashMap;

use messaging::Position;
use messaging_conformance::{
    checker::{Expectations, GroupExpectation, Report, Rule, check},
    history::{End, History, Record, Start, What},
};

/// A second in the history's time.
pub(crate) const SECOND: u64 = 1_000_000_000;

#[derive(Default)]
pub(crate) struct Story {
    records: Vec<Record>,
    now: u64,
    runs: u64,
    open: HashMap<(&'static str, u64), u64>,
    keys: HashMap<u64, &'static str>,
    seqs: HashMap<(&'static str, &'static str), u64>,
    epochs: HashMap<&'static str, u64>,
}

/// What each message's payload hashes to.
pub(crate) fn hash(id: u64) -> u64 {
    id * 1000
}

impl Story {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn then(mut self, who: &str, what: What) -> Self {
        self.now += 1;
        self.records.push(Record::new(self.now, who, what));
        self
    }

    pub(crate) fn after(mut self, time: u64) -> Self {
        self.now += time;
        self
    }

    pub(crate) fn attempt(mut self, who: &'static str, id: u64, key: &'static str) -> Self {
        self.keys.insert(id, key);
        let seq = self.seqs.entry((who, key)).or_default();
        *seq += 1;
        let seq = *seq;
        self.then(who, What::Attempted { id, topic: "t".into(), key: Some(key.into()), seq, hash: hash(id) })
    }

    pub(crate) fn confirm(self, who: &'static str, id: u64, position: u64) -> Self {
        self.then(who, What::Confirmed { id, partition: 0, position: Some(Position::new(position)) })
    }

    /// Publishes a message and has it confirmed at the position that is its id.
    pub(crate) fn publish(self, id: u64, key: &'static str) -> Self {
        self.attempt("publisher", id, key).confirm("publisher", id, id)
    }

    /// From now on this member owns the partition.
    pub(crate) fn owner(mut self, who: &'static str, epoch: u64) -> Self {
        self.epochs.insert(who, epoch);
        self
    }

    pub(crate) fn started(&mut self, who: &'static str, id: u64, attempt: u32) -> Start {
        self.runs += 1;
        self.open.insert((who, id), self.runs);
        Start {
            run: self.runs,
            group: "g".into(),
            topic: "t".into(),
            partition: 0,
            position: Position::new(id),
            epoch: self.epochs.get(who).copied().unwrap_or(1),
            attempt,
            key: self.keys.get(&id).map(|key| (*key).into()),
            id: Some(id),
            hash: hash(id),
        }
    }

    pub(crate) fn start(mut self, who: &'static str, id: u64) -> Self {
        let start = self.started(who, id, 1);
        self.then(who, What::Started(start))
    }

    pub(crate) fn end(mut self, who: &'static str, id: u64, how: End) -> Self {
        let run = self.open.remove(&(who, id)).unwrap();
        self.then(who, What::Ended { run, how })
    }

    pub(crate) fn handle(self, who: &'static str, id: u64) -> Self {
        self.start(who, id).end(who, id, End::Handled)
    }

    pub(crate) fn fail(mut self, who: &'static str, id: u64, attempt: u32) -> Self {
        let start = self.started(who, id, attempt);
        self.then(who, What::Started(start)).end(who, id, End::Failed)
    }

    pub(crate) fn dead(self, id: u64, attempts: u32) -> Self {
        self.then("test", What::DeadLettered { group: "g".into(), id: Some(id), hash: hash(id), attempts })
    }

    pub(crate) fn check(&self, expectations: impl Into<Expectations>) -> Report {
        check(&History::new(self.records.clone()), &expectations.into())
    }

    #[track_caller]
    pub(crate) fn passes(&self, expectations: impl Into<Expectations>) -> Report {
        match self.check(expectations).verdict() {
            Ok(report) => report,
            Err(report) => panic!("{report}"),
        }
    }

    #[track_caller]
    pub(crate) fn fails(&self, expectations: impl Into<Expectations>, by: Rule) -> Report {
        let report = self.check(expectations);
        assert_eq!(report.rules(), [by], "{report}");
        report
    }
}

pub(crate) fn group() -> GroupExpectation {
    GroupExpectation::new("g", ["t"])
}
