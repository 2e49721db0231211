//! [`Broker`]: the logs, and what of them is settled. It redelivers in order what is not, each once per assignment.

use super::{
    Message,
    schedule::{Hashing, LogPlan, Settling},
};
use crate::{delivery::Position, engine::Incoming};

pub(super) struct Broker {
    pub(super) logs: Vec<Log>,
    hashing: Hashing,
    settling: Settling,
}

pub(super) struct Log {
    pub(super) number: u32,
    pub(super) epoch: u64,
    /// The engine's handle, while the log is this instance's.
    pub(super) handle: Option<u32>,
    entries: Vec<Entry>,
    cursor: usize,
    /// The first that is not settled.
    floor: usize,
}

struct Entry {
    position: Position,
    key: Option<u64>,
    bytes: usize,
    settled: bool,
}

/// A lane as the contract names it; the partition stands for its topic and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    Key(usize, u64),
    Alone(usize, Position),
}

impl Broker {
    pub(super) fn new(plans: &[LogPlan], hashing: Hashing, settling: Settling) -> Self {
        Self { logs: plans.iter().map(Log::new).collect(), hashing, settling }
    }

    /// The next assignment of a log begins with the first that is not settled.
    pub(super) fn assign(&mut self, log: usize) -> u64 {
        let log = &mut self.logs[log];
        log.epoch += 1;
        log.cursor = log.floor;
        log.epoch
    }

    pub(super) fn next(&mut self, index: usize) -> Option<Incoming<Message>> {
        let hashing = self.hashing;
        let log = &mut self.logs[index];
        let at = (log.cursor..log.entries.len()).find(|at| !log.entries[*at].settled)?;
        log.cursor = at + 1;
        let entry = &log.entries[at];
        let lane = entry.key.map(|key| match hashing {
            Hashing::Distinct => mix(key ^ mix(index as u64)),
            Hashing::Colliding => (key + index as u64) % 3,
        });
        let message = Message { log: index, index: at };
        Some(Incoming { position: entry.position, lane, bytes: entry.bytes, deaths: (at % 3) as u32, item: message })
    }

    pub(super) fn settle(&mut self, log: usize, finished: &[Position], through: Option<Position>) {
        let settling = self.settling;
        let log = &mut self.logs[log];
        let index_of = |position| log.entries.binary_search_by_key(&position, |entry| entry.position);
        let settled: Vec<usize> = match settling {
            Settling::EachFinished => finished.iter().filter_map(|position| index_of(*position).ok()).collect(),
            Settling::WatermarkOnly => {
                let through = through.and_then(|through| index_of(through).ok());
                through.map_or_else(Vec::new, |through| (log.floor..=through).collect())
            }
        };
        for index in settled {
            log.entries[index].settled = true;
        }
        log.raise_floor();
    }

    /// Another owner settles the first `count` that are not settled.
    pub(super) fn settle_elsewhere(&mut self, log: usize, count: usize) {
        let log = &mut self.logs[log];
        let unsettled = log.entries.iter_mut().filter(|entry| !entry.settled);
        unsettled.take(count).for_each(|entry| entry.settled = true);
        log.raise_floor();
    }

    pub(super) fn lane(&self, message: Message) -> Lane {
        let entry = &self.logs[message.log].entries[message.index];
        match entry.key {
            Some(key) => Lane::Key(message.log, key),
            None => Lane::Alone(message.log, entry.position),
        }
    }

    pub(super) fn first_unsettled(&self) -> Option<Message> {
        let mut logs = self.logs.iter().enumerate();
        logs.find_map(|(log, content)| {
            (content.floor < content.entries.len()).then_some(Message { log, index: content.floor })
        })
    }

    pub(super) fn log_of(&self, handle: u32) -> usize {
        let found = self.logs.iter().position(|log| log.handle == Some(handle));
        found.unwrap_or_else(|| panic!("handle {handle} is no partition of ours"))
    }
}

impl Log {
    fn new(plan: &LogPlan) -> Self {
        let mut position = 0;
        let entries = (0..plan.len as u64).map(|index| {
            let random = mix(plan.seed.wrapping_add(index));
            // Positions may have gaps.
            position += 1 + u64::from(random.is_multiple_of(5));
            Entry {
                position: Position::new(position),
                key: ((random >> 8) % 4 >= plan.keyless).then_some((random >> 16) % plan.keys),
                bytes: 1 + (random >> 40) as usize % 4,
                settled: false,
            }
        });
        Self { entries: entries.collect(), number: plan.number, epoch: 0, handle: None, cursor: 0, floor: 0 }
    }

    fn raise_floor(&mut self) {
        while self.entries.get(self.floor).is_some_and(|entry| entry.settled) {
            self.floor += 1;
        }
    }
}

/// SplitMix64's finalizer.
pub(super) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
