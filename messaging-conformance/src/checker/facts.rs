//! [`Facts`]: a history sorted into messages, runs and what happened to members, for the rules to look at.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use messaging::Position;

use crate::history::{End, History, Record, Start, What};

/// After broker and network are well again, their harm may still show for so long: sessions end, leases lapse.
const AFTERMATH: u64 = 10_000_000_000;

/// One message as its publisher saw it.
pub(super) struct Published<'a> {
    pub(super) publisher: &'a Arc<str>,
    pub(super) topic: &'a Arc<str>,
    pub(super) key: Option<&'a Arc<str>>,
    pub(super) seq: u64,
    pub(super) hash: u64,
    pub(super) attempted: u64,
    pub(super) outcome: Answer,
}

/// How a publish ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    None,
    Confirmed { at: u64, partition: u32, position: Option<Position> },
    Rejected,
    Unknown,
}

/// One run of a handler.
pub(super) struct Run<'a> {
    pub(super) who: &'a Arc<str>,
    pub(super) start: &'a Start,
    pub(super) from: u64,
    /// The end of the run: its own, or its member's.
    pub(super) to: u64,
    pub(super) how: Option<End>,
    /// An owner with a newer epoch had started something of the partition before.
    pub(super) stale: bool,
}

impl Run<'_> {
    pub(super) fn handled(&self) -> bool {
        self.how == Some(End::Handled)
    }

    pub(super) fn describe(&self) -> String {
        let Start { topic, partition, position, key, id, epoch, attempt, .. } = self.start;
        let key = key.as_deref().unwrap_or("no key");
        let id = id.map_or_else(|| "?".to_owned(), |id| id.to_string());
        format!(
            "{topic}/{partition}@{position} (message {id}, {key}, attempt {attempt}) at {} in epoch {epoch}",
            self.who
        )
    }
}

/// What tells one message of a group from all others.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity<'a> {
    topic: &'a str,
    partition: u32,
    id: Option<u64>,
    /// Where positions stay with the message.
    position: Option<Position>,
}

/// A member was killed, or was frozen for a while.
pub(super) struct Blow<'a> {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) victim: &'a Arc<str>,
}

impl Blow<'_> {
    /// For how long it was frozen; without end if it still is.
    pub(super) fn lasted(&self) -> Duration {
        Duration::from_nanos(self.to - self.from)
    }
}

/// A period in which something was harmed.
struct Harm {
    from: u64,
    to: u64,
}

pub(super) struct Facts<'a> {
    pub(super) records: &'a [Record],
    pub(super) messages: BTreeMap<u64, Published<'a>>,
    /// In the order of their starts.
    pub(super) runs: Vec<Run<'a>>,
    /// When each member was killed or frozen.
    pub(super) blows: Vec<Blow<'a>>,
    harms: Vec<Harm>,
    pub(super) end: u64,
    /// Publishers are told positions, and so a message has the same one for every owner. Where they are not (delivery
    /// tags), the order of publishing stands in for the log's, so that each lane is to have one publisher.
    pub(super) lasting_positions: bool,
}

impl<'a> Facts<'a> {
    pub(super) fn gather(history: &'a History) -> Self {
        let records = history.records();
        let end = records.last().map_or(0, |record| record.at);
        let mut facts = Self {
            records,
            messages: BTreeMap::new(),
            runs: Vec::new(),
            blows: Vec::new(),
            harms: Vec::new(),
            end,
            lasting_positions: false,
        };
        let mut open: HashMap<(&str, u64), usize> = HashMap::new();
        let mut killed: HashMap<&str, u64> = HashMap::new();
        for Record { at, who, what } in records {
            match what {
                What::Attempted { id, topic, key, seq, hash } => {
                    let (key, outcome) = (key.as_ref(), Answer::None);
                    let published =
                        Published { publisher: who, topic, key, seq: *seq, hash: *hash, attempted: *at, outcome };
                    facts.messages.insert(*id, published);
                }
                What::Confirmed { id, partition, position } => {
                    facts.lasting_positions |= position.is_some();
                    facts.answer(*id, Answer::Confirmed { at: *at, partition: *partition, position: *position });
                }
                What::Rejected { id, .. } => facts.answer(*id, Answer::Rejected),
                What::Unknown { id, .. } => facts.answer(*id, Answer::Unknown),
                What::Started(start) => {
                    open.insert((who, start.run), facts.runs.len());
                    facts.runs.push(Run { who, start, from: *at, to: end, how: None, stale: false });
                }
                What::Ended { run, how } => {
                    if let Some(index) = open.remove(&(&**who, *run)) {
                        let run = &mut facts.runs[index];
                        (run.to, run.how) = (*at, Some(*how));
                    }
                }
                What::Killed => {
                    killed.insert(who, *at);
                    facts.blows.push(Blow { from: *at, to: *at, victim: who });
                }
                What::Frozen => facts.blows.push(Blow { from: *at, to: u64::MAX, victim: who }),
                What::Thawed => {
                    let frozen = facts.blows.iter_mut().filter(|blow| blow.victim == who && blow.to == u64::MAX);
                    frozen.for_each(|blow| blow.to = *at);
                }
                What::Harmed { .. } => facts.harms.push(Harm { from: *at, to: u64::MAX }),
                What::Healed => {
                    for harm in facts.harms.iter_mut().filter(|harm| harm.to == u64::MAX) {
                        harm.to = at + AFTERMATH;
                    }
                }
                _ => {}
            }
        }
        for index in open.into_values() {
            let run = &mut facts.runs[index];
            if let Some(killed) = killed.get(&**run.who) {
                run.to = *killed;
            }
        }
        facts.mark_stale();
        facts
    }

    fn answer(&mut self, id: u64, outcome: Answer) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.outcome = outcome;
        }
    }

    fn mark_stale(&mut self) {
        let mut newest: HashMap<(&str, &str, u32), u64> = HashMap::new();
        for run in &mut self.runs {
            let Start { group, topic, partition, epoch, .. } = run.start;
            let newest = newest.entry((group, topic, *partition)).or_default();
            run.stale = *epoch < *newest;
            *newest = (*epoch).max(*newest);
        }
    }

    pub(super) fn confirmed(&self) -> impl Iterator<Item = (u64, &Published<'a>)> {
        let confirmed = |message: &&Published<'_>| matches!(message.outcome, Answer::Confirmed { .. });
        self.messages.iter().map(|(id, message)| (*id, message)).filter(move |(_, message)| confirmed(message))
    }

    /// The runs of a group, in the order of their starts.
    pub(super) fn runs_of<'b>(&'b self, group: &'b str) -> impl Iterator<Item = &'b Run<'a>> {
        self.runs.iter().filter(move |run| &*run.start.group == group)
    }

    /// Which message a run was about.
    pub(super) fn identity(&self, run: &Run<'a>) -> Identity<'a> {
        let Start { topic, partition, position, id, .. } = run.start;
        let position = (self.lasting_positions || id.is_none()).then_some(*position);
        Identity { topic, partition: *partition, id: *id, position }
    }

    /// Where the message of a run stands in its partition's log; `None` if nothing promises a place.
    pub(super) fn place(&self, run: &Run<'_>) -> Option<Position> {
        if self.lasting_positions {
            return Some(run.start.position);
        }
        let message = self.messages.get(&run.start.id?)?;
        let confirmed = matches!(message.outcome, Answer::Confirmed { .. });
        confirmed.then_some(Position { major: message.attempted, minor: message.seq })
    }

    /// Whether this member was killed or frozen in this time, or was frozen still.
    pub(super) fn was_struck(&self, who: &str, from: u64, to: u64) -> bool {
        self.blows.iter().any(|blow| **blow.victim == *who && blow.from <= to && from <= blow.to)
    }

    /// Whether this member was ever frozen or killed before.
    pub(super) fn was_struck_before(&self, who: &str, at: u64) -> bool {
        self.was_struck(who, 0, at)
    }

    /// Whether the broker or the way to it was harmed in this time, or shortly before.
    pub(super) fn was_harmed(&self, from: u64, to: u64) -> bool {
        self.harms.iter().any(|harm| harm.from <= to && from <= harm.to)
    }
}
