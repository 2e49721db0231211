//! The key-ordered scheduler between a consumer and its handlers, as a plain state machine: no clock, socket or
//! runtime. Time goes in as an argument, the next deadline comes out.
//!
//! A delivery enters by [`push`](Engine::push) at the end of its *lane* (topic, partition and key; one without a key
//! is a lane of its own). The head of a lane may start; [`take`](Engine::take) hands out heads, the oldest first, and
//! a head holds its lane until [`finish`](Engine::finish). What is finished is told to the broker with the watermark
//! of its partition, by [`settlements`](Engine::settlements).
//!
//! Invariants, which the property tests drive at: two deliveries of a lane are never out at once; they come out in the
//! order of arrival; nothing starts on a partition that is revoked, lost or past its validity; nothing unfinished is
//! settled; every delivery ends finished, or is dropped unsettled with its partition.

mod assignment;
mod crowding;
mod deadlines;
mod orphans;
mod partitions;
mod ready;
mod seeded;
#[cfg(test)]
mod tests;
mod tracker;
mod view;
mod window;

use std::{cmp::Reverse, collections::BinaryHeap};

use self::{
    orphans::{Orphans, Place},
    partitions::{Partition, Phase},
    seeded::Bug,
    window::{State, Window},
};
use crate::{delivery::Position, time::Tick};

/// What bounds the window between the broker and the handlers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Deliveries held at once, over all partitions.
    pub(crate) in_flight: usize,
    /// Their bytes; intake stops when they are reached, so that the cap is this plus one fetch.
    pub(crate) bytes: usize,
    /// Deliveries between a partition's watermark and its newest, finished or not.
    pub(crate) span: usize,
}

/// One delivery on its way in.
pub(crate) struct Incoming<T> {
    pub(crate) position: Position,
    /// The hash of topic, partition and key; `None` without a key.
    pub(crate) lane: Option<u64>,
    pub(crate) bytes: usize,
    /// How many processes have ended uncleanly while this message was in a handler.
    pub(crate) deaths: u32,
    pub(crate) item: T,
}

/// Names one delivery in the window; never names another one later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct EntryId {
    index: u32,
    seq: u64,
}

/// A delivery that may start now; its lane is held until it is finished or given back.
#[derive(Debug)]
pub(crate) struct Start<T, N> {
    pub(crate) id: EntryId,
    pub(crate) item: T,
    pub(crate) position: Position,
    pub(crate) epoch: u64,
    /// The partition's number in its topic.
    pub(crate) number: u32,
    /// What the partition's topic was called by when it was assigned.
    pub(crate) topic: u32,
    pub(crate) past: Option<Box<Past<N>>>,
}

/// What a delivery has behind it. Most have nothing: kept apart, so that they carry nothing of it about.
#[derive(Debug)]
pub(crate) struct Past<N> {
    /// Attempts that were counted before.
    pub(crate) attempts: u32,
    pub(crate) deaths: u32,
    /// It was parked, and what waits behind it filled half a bound: it is to be dead-lettered without another attempt.
    pub(crate) crowded: bool,
    /// What the last [`Verdict::Park`] left with it.
    pub(crate) note: Option<Box<N>>,
}

impl<N> Default for Past<N> {
    fn default() -> Self {
        Self { attempts: 0, deaths: 0, crowded: false, note: None }
    }
}

impl<N> Past<N> {
    /// What goes out with a start; the counts stay here too.
    #[cold]
    fn hand_out(&mut self) -> Box<Self> {
        let crowded = std::mem::take(&mut self.crowded);
        Box::new(Self { attempts: self.attempts, deaths: self.deaths, crowded, note: self.note.take() })
    }

    #[cold]
    fn of_deaths(deaths: u32) -> Option<Box<Self>> {
        Some(Box::new(Self { deaths, ..Self::default() }))
    }

    #[cold]
    fn take_back(&mut self, handed_out: Self) {
        self.crowded = handed_out.crowded;
        self.note = handed_out.note;
    }
}

/// How a start ended.
#[derive(Debug)]
pub(crate) enum Verdict<N> {
    /// Handled, skipped or safely dead-lettered: settle it.
    Finished,
    /// Try again at this time; `counted` if the failure was the message's.
    Park { until: Tick, counted: bool, note: Option<Box<N>> },
    /// Its future was dropped: it comes back from the broker.
    Dropped,
    /// It cannot go on here: its partition is given up as by [`Engine::revoke`], unsettled.
    GiveUp { drain_until: Tick },
}

pub(crate) struct Engine<T, N> {
    limits: Limits,
    window: Window<T, N>,
    parked: BinaryHeap<Reverse<(Tick, u64, u32)>>,
    partitions: Vec<Partition>,
    /// Partitions with finished deliveries that are not settled.
    dirty: Vec<u32>,
    /// Deliveries whose futures are to be dropped.
    cancels: Vec<EntryId>,
    /// Partitions that have no handler running any more and can be released.
    drained: Vec<u32>,
    orphans: Orphans,
    /// Whether a revocation may have a deadline ahead: mostly none has, and no partition need be looked at.
    revoking: bool,
    /// How many deliveries will have been pushed when parked heads are looked at next for crowding.
    crowd_check: u64,
    /// Nothing more is taken in.
    closed: bool,
}

impl<T: Clone, N> Engine<T, N> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            window: Window::new(limits.in_flight),
            parked: BinaryHeap::new(),
            partitions: Vec::new(),
            dirty: Vec::new(),
            cancels: Vec::new(),
            drained: Vec::new(),
            orphans: Orphans::default(),
            revoking: false,
            crowd_check: 0,
            closed: false,
        }
    }

    /// Takes a delivery in. One that comes for a partition that is no longer assigned is dropped: it comes back.
    #[inline]
    pub(crate) fn push(&mut self, partition: u32, incoming: Incoming<T>) {
        let Some(state) = self.partitions.get_mut(partition as usize) else { return };
        if state.phase != Phase::Assigned {
            return;
        }
        let ordinal = state.tracker.push(incoming.position);
        let lane = incoming.lane.map_or(0, |hash| hash.max(1));
        let place = Place { number: state.number, position: incoming.position };
        if lane == 0 && self.orphans.run(place) {
            let id = self.window.push_waiting(incoming, partition, ordinal);
            self.orphans.wait(id, place);
        } else {
            self.window.push(incoming, partition, ordinal, lane);
        }
    }

    /// Hands out up to `max` deliveries that may start, the oldest first. `gate` is the present time on the clock of
    /// `valid_until`; without it only partitions that have no `valid_until` start anything.
    #[inline(always)]
    pub(crate) fn take(&mut self, gate: Option<Tick>, max: usize, mut out: impl FnMut(Start<T, N>)) {
        let mut left = max;
        while left > 0 {
            let Some((seq, index)) = self.window.pop_ready() else { break };
            let entry = self.window.entry_mut(index);
            let Some(item) = &entry.item else { continue };
            let state = &mut self.partitions[entry.partition as usize];
            if let Some(valid_until) = state.valid_until
                && gate.is_none_or(|now| now >= valid_until && !(Bug::StartsStale.is_on() && now == valid_until))
            {
                state.gated.push((seq, index));
                continue;
            }
            out(Start {
                id: EntryId { index, seq },
                item: item.clone(),
                position: entry.position,
                epoch: state.epoch,
                number: state.number,
                topic: state.topic,
                past: entry.past.as_mut().map(|past| past.hand_out()),
            });
            entry.state = State::Running;
            state.running += 1;
            left -= 1;
        }
    }

    /// Takes back a start that was not begun.
    pub(crate) fn give_back(&mut self, start: Start<T, N>) {
        let id = start.id;
        let Some(entry) = self.window.get_mut(id.index, id.seq) else { return };
        let state = &mut self.partitions[entry.partition as usize];
        if state.phase == Phase::Assigned {
            entry.state = State::Ready;
            if let (Some(past), Some(handed_out)) = (&mut entry.past, start.past) {
                past.take_back(*handed_out);
            }
            state.running -= 1;
            if !Bug::LosesOne.is_on() {
                self.window.requeue(id.index, id.seq);
            }
        } else {
            self.finish(id, Verdict::Dropped);
        }
    }

    /// A start was handled: what [`finish`](Self::finish) does with [`Verdict::Finished`], without the rare cases.
    #[inline(always)]
    pub(crate) fn complete(&mut self, id: EntryId) {
        let removed = self.window.remove_running_if(id, |entry| {
            let state = &mut self.partitions[entry.partition as usize];
            if entry.troubled || state.phase != Phase::Assigned {
                return false;
            }
            state.running -= 1;
            if state.tracker.finish(entry.ordinal, entry.position) {
                self.dirty.push(entry.partition);
            }
            true
        });
        if !removed {
            self.finish(id, Verdict::Finished);
        }
    }

    /// A start ended.
    pub(crate) fn finish(&mut self, id: EntryId, verdict: Verdict<N>) {
        let Some(entry) = self.window.get_mut(id.index, id.seq) else { return };
        if entry.state != State::Running {
            return;
        }
        let index = entry.partition as usize;
        let state = &mut self.partitions[index];
        state.running -= 1;
        state.troubled -= u32::from(entry.troubled);
        let give_up = match verdict {
            Verdict::Park { until, counted, note } if state.phase == Phase::Assigned => {
                let past = entry.past.get_or_insert_default();
                past.note = note;
                past.attempts += u32::from(counted);
                entry.troubled = !counted;
                state.troubled += u32::from(!counted);
                entry.state = State::Parked;
                if self.parked.is_empty() {
                    self.postpone_crowding();
                }
                self.parked.push(Reverse((until, id.seq, id.index)));
                self.look_if_it_crowds(id.index, id.seq);
                return;
            }
            Verdict::Finished if state.phase.is_ours() || Bug::SettlesWhenLost.is_on() => {
                if state.tracker.finish(entry.ordinal, entry.position) {
                    self.dirty.push(index as u32);
                }
                None
            }
            Verdict::Dropped if Bug::SettlesEarly.is_on() => {
                state.tracker.finish(entry.ordinal, entry.position);
                None
            }
            Verdict::GiveUp { drain_until } => Some(drain_until),
            Verdict::Finished | Verdict::Park { .. } | Verdict::Dropped => None,
        };
        match state.phase {
            Phase::Assigned => {}
            Phase::Revoking { .. } if state.running == u32::from(Bug::DrainsEarly.is_on()) => {
                self.drained.push(index as u32)
            }
            Phase::Revoking { .. } | Phase::Free => {}
            Phase::Lost => {
                if state.running == 0 {
                    state.phase = Phase::Free;
                }
                for waiting in self.orphans.end(id) {
                    self.window.wake(waiting.index);
                }
            }
        }
        self.window.remove_head(id.index);
        if let Some(deadline) = give_up {
            self.revoke(index as u32, deadline);
        }
    }
}
