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

mod partitions;
mod tracker;
mod window;

pub(crate) use partitions::Settlements;
use partitions::{Partition, Phase};
use window::{Entry, State, Window};

use std::{cmp::Reverse, collections::BinaryHeap};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EntryId {
    index: u32,
    seq: u64,
}

/// A delivery that may start now; its lane is held until it is finished or given back.
#[derive(Debug)]
pub(crate) struct Start<T, N> {
    pub(crate) id: EntryId,
    pub(crate) item: T,
    pub(crate) partition: u32,
    /// The partition's number in its topic.
    pub(crate) number: u32,
    pub(crate) position: Position,
    pub(crate) epoch: u64,
    /// Attempts that were counted before.
    pub(crate) attempts: u32,
    pub(crate) deaths: u32,
    /// It was parked, and what waits behind it filled half a bound: it is to be dead-lettered without another attempt.
    pub(crate) crowded: bool,
    /// What the last [`Verdict::Park`] left with it.
    pub(crate) note: Option<Box<N>>,
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
    /// Starts out whose partition is gone: while there are some, deliveries without a key need a lane too.
    orphans: usize,
    /// The window's length at which parked heads are looked at next for crowding.
    crowd_check: usize,
}

impl<T: Clone, N> Engine<T, N> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            window: Window::with_capacity(limits.in_flight.min(1024)),
            parked: BinaryHeap::new(),
            partitions: Vec::new(),
            dirty: Vec::new(),
            cancels: Vec::new(),
            drained: Vec::new(),
            orphans: 0,
            crowd_check: 0,
        }
    }

    /// The partition of this number in its topic is ours under `epoch`. Answers the handle under which everything about it is said from now on.
    pub(crate) fn assign(&mut self, number: u32, epoch: u64) -> u32 {
        let partition = Partition::new(epoch, number);
        match self.partitions.iter().position(|partition| partition.phase == Phase::Free) {
            Some(index) => {
                self.partitions[index] = partition;
                index as u32
            }
            None => {
                self.partitions.push(partition);
                self.partitions.len() as u32 - 1
            }
        }
    }

    /// Nothing of the partition starts at or after this time, until it is renewed.
    pub(crate) fn renew(&mut self, partition: u32, valid_until: Tick) {
        let Some(state) = self.partitions.get_mut(partition as usize) else { return };
        state.valid_until = Some(valid_until);
        for (seq, index) in std::mem::take(&mut state.gated) {
            self.window.requeue(index, seq);
        }
    }

    /// How many deliveries of this partition may be pushed now.
    pub(crate) fn credit(&self, partition: u32) -> usize {
        let Some(state) = self.partitions.get(partition as usize) else { return 0 };
        if state.phase != Phase::Assigned || state.troubled > 0 || self.window.bytes() >= self.limits.bytes {
            return 0;
        }
        let span = self.limits.span.saturating_sub(state.tracker.span());
        self.limits.in_flight.saturating_sub(self.window.len()).min(span)
    }

    /// Takes a delivery in. One that comes for a partition that is no longer assigned is dropped: it comes back.
    #[inline]
    pub(crate) fn push(&mut self, partition: u32, incoming: Incoming<T>) {
        let Some(state) = self.partitions.get_mut(partition as usize) else { return };
        if state.phase != Phase::Assigned {
            return;
        }
        let lane = match incoming.lane {
            Some(hash) => hash.max(1),
            None if self.orphans == 0 => 0,
            None => self_lane(partition, incoming.position),
        };
        let ordinal = state.tracker.push(incoming.position);
        self.window.push(Entry::new(incoming, partition, ordinal, lane));
    }

    /// Hands out up to `max` deliveries that may start, the oldest first. `gate` is the present time on the clock of
    /// `valid_until`; without it only partitions that have no `valid_until` start anything.
    #[inline]
    pub(crate) fn take(&mut self, gate: Option<Tick>, max: usize, out: &mut Vec<Start<T, N>>) {
        let mut left = max;
        while left > 0 {
            let Some((seq, index)) = self.window.pop_ready() else { break };
            let entry = self.window.entry_mut(index);
            let Some(item) = &entry.item else { continue };
            let state = &mut self.partitions[entry.partition as usize];
            if let Some(valid_until) = state.valid_until
                && gate.is_none_or(|now| now >= valid_until)
            {
                state.gated.push((seq, index));
                continue;
            }
            let start = Start {
                id: EntryId { index, seq },
                item: item.clone(),
                partition: entry.partition,
                number: state.number,
                position: entry.position,
                epoch: state.epoch,
                attempts: entry.attempts,
                deaths: entry.deaths,
                crowded: std::mem::take(&mut entry.crowded),
                note: entry.note.take(),
            };
            entry.state = State::Running;
            state.running += 1;
            out.push(start);
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
            entry.crowded = start.crowded;
            entry.note = start.note;
            state.running -= 1;
            self.window.requeue(id.index, id.seq);
        } else {
            self.finish(id, Verdict::Dropped);
        }
    }

    /// A start ended.
    #[inline]
    pub(crate) fn finish(&mut self, id: EntryId, verdict: Verdict<N>) {
        let Some(entry) = self.window.get_mut(id.index, id.seq) else { return };
        if entry.state != State::Running {
            return;
        }
        let index = entry.partition as usize;
        let state = &mut self.partitions[index];
        state.running -= 1;
        if std::mem::take(&mut entry.troubled) {
            state.troubled -= 1;
        }
        let give_up = match verdict {
            Verdict::Park { until, counted, note } if state.phase == Phase::Assigned => {
                entry.note = note;
                entry.attempts += u32::from(counted);
                entry.troubled = !counted;
                state.troubled += u32::from(!counted);
                entry.state = State::Parked;
                self.parked.push(Reverse((until, id.seq, id.index)));
                return;
            }
            Verdict::Finished if matches!(state.phase, Phase::Assigned | Phase::Revoking { .. }) => {
                if state.tracker.finish(entry.ordinal) {
                    self.dirty.push(index as u32);
                }
                None
            }
            Verdict::GiveUp { drain_until } => Some(drain_until),
            Verdict::Finished | Verdict::Park { .. } | Verdict::Dropped => None,
        };
        match state.phase {
            Phase::Assigned => {}
            Phase::Revoking { .. } if state.running == 0 => self.drained.push(index as u32),
            Phase::Revoking { .. } | Phase::Free => {}
            Phase::Lost => {
                self.orphans -= 1;
                if state.running == 0 {
                    state.phase = Phase::Free;
                }
            }
        }
        self.window.remove_head(id.index);
        if let Some(deadline) = give_up {
            self.revoke(index as u32, deadline);
        }
    }

    /// Makes ready what was parked until `now` or before, and cancels what a revocation's deadline has overtaken.
    pub(crate) fn advance(&mut self, now: Tick) {
        while let Some(Reverse((until, seq, index))) = self.parked.peek().copied() {
            if until > now {
                break;
            }
            self.parked.pop();
            self.unpark(index, seq);
        }
        for partition in 0..self.partitions.len() {
            let state = &mut self.partitions[partition];
            if let Phase::Revoking { deadline, cancelled } = &mut state.phase
                && *deadline <= now
                && !std::mem::replace(cancelled, true)
            {
                let running = self.window.running(partition as u32);
                self.cancels.extend(running.map(|(index, seq)| EntryId { index, seq }));
            }
        }
        self.relieve_crowding();
    }

    /// When [`advance`](Self::advance) has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Tick> {
        let parked = self.parked.peek().map(|Reverse((until, ..))| *until);
        let revoking = self.partitions.iter().filter_map(|state| match state.phase {
            Phase::Revoking { deadline, cancelled: false } => Some(deadline),
            _ => None,
        });
        parked.into_iter().chain(revoking).min()
    }

    /// A live owner gives the partition up: nothing of it starts any more, what is parked or waiting is dropped, what
    /// runs may finish until `deadline`. When none runs any more it is [`drained`](Self::drained).
    pub(crate) fn revoke(&mut self, partition: u32, deadline: Tick) {
        let Some(state) = self.partitions.get_mut(partition as usize) else { return };
        match &mut state.phase {
            Phase::Assigned => {
                state.phase = Phase::Revoking { deadline, cancelled: false };
                self.drop_waiting(partition);
                if self.partitions[partition as usize].running == 0 {
                    self.drained.push(partition);
                }
            }
            Phase::Revoking { deadline: earlier, .. } => *earlier = deadline.min(*earlier),
            Phase::Lost | Phase::Free => {}
        }
    }

    /// The partition is somebody else's already: nothing of it starts, what runs is cancelled, nothing is settled.
    pub(crate) fn lose(&mut self, partition: u32) {
        let Some(state) = self.partitions.get_mut(partition as usize) else { return };
        if matches!(state.phase, Phase::Lost | Phase::Free) {
            return;
        }
        state.phase = Phase::Lost;
        state.tracker.clear_finished();
        self.dirty.retain(|dirty| *dirty != partition);
        self.drained.retain(|drained| *drained != partition);
        self.drop_waiting(partition);
        let running: Vec<_> = self.window.running(partition).collect();
        self.orphans += running.len();
        if running.is_empty() {
            self.partitions[partition as usize].phase = Phase::Free;
        }
        for (index, seq) in running {
            let entry = self.window.entry_mut(index);
            if entry.lane == 0 {
                entry.lane = self_lane(partition, entry.position);
            }
            self.window.hold_lane(index);
            self.cancels.push(EntryId { index, seq });
        }
    }

    /// Deliveries whose futures are to be dropped and then finished as [`Verdict::Dropped`].
    pub(crate) fn cancels(&mut self) -> std::vec::Drain<'_, EntryId> {
        self.cancels.drain(..)
    }

    /// What was finished since the last call, a partition at a time.
    pub(crate) fn settlements(&mut self) -> Settlements<'_> {
        Settlements::new(&mut self.partitions, &mut self.dirty)
    }

    /// A revoked partition on which nothing runs any more; after its last settlement it can be released, and its
    /// handle is free.
    pub(crate) fn drained(&mut self) -> Option<u32> {
        debug_assert!(self.drained.is_empty() || self.dirty.is_empty(), "settle before releasing");
        let partition = self.drained.pop()?;
        self.partitions[partition as usize].phase = Phase::Free;
        Some(partition)
    }

    /// Every partition that is assigned, to stop.
    pub(crate) fn revoke_all(&mut self, deadline: Tick) {
        for partition in 0..self.partitions.len() as u32 {
            self.revoke(partition, deadline);
        }
    }

    /// The item of a start that is out, unless its partition was lost.
    pub(crate) fn item(&self, id: EntryId) -> Option<&T> {
        let entry = self.window.get(id.index, id.seq)?;
        let state = &self.partitions[entry.partition as usize];
        entry.item.as_ref().filter(|_| matches!(state.phase, Phase::Assigned | Phase::Revoking { .. }))
    }

    /// Whether a start is still out.
    pub(crate) fn is_running(&self, id: EntryId) -> bool {
        self.window.get(id.index, id.seq).is_some_and(|entry| entry.state == State::Running)
    }

    /// How many deliveries may start now, as far as their lanes go.
    #[inline]
    pub(crate) fn ready(&self) -> usize {
        self.window.ready()
    }

    /// How many deliveries are in the window.
    #[inline]
    pub(crate) fn in_flight(&self) -> usize {
        self.window.len()
    }

    /// Whether intake is worth while: the window is less than half full, or nothing in it may start.
    #[inline]
    pub(crate) fn is_hungry(&self) -> bool {
        let len = self.window.len();
        len * 2 <= self.limits.in_flight || (self.window.ready() == 0 && len < self.limits.in_flight)
    }

    /// Whether any partition is held: assigned, or revoked and not yet released.
    pub(crate) fn holds_partitions(&self) -> bool {
        self.partitions.iter().any(|state| matches!(state.phase, Phase::Assigned | Phase::Revoking { .. }))
    }

    /// The items that are parked, with when they are due.
    pub(crate) fn parked(&self) -> impl Iterator<Item = (&T, u32, Position, Tick)> {
        self.parked.iter().filter_map(|Reverse((until, seq, index))| {
            let entry = self.window.get(*index, *seq).filter(|entry| entry.state == State::Parked)?;
            Some((entry.item.as_ref()?, entry.partition, entry.position, *until))
        })
    }

    /// The items whose handlers run.
    pub(crate) fn running(&self) -> impl Iterator<Item = (&T, u32, Position)> {
        self.window
            .iter()
            .filter(|entry| entry.state == State::Running)
            .filter_map(|entry| Some((entry.item.as_ref()?, entry.partition, entry.position)))
    }

    fn unpark(&mut self, index: u32, seq: u64) {
        if let Some(entry) = self.window.get_mut(index, seq).filter(|entry| entry.state == State::Parked) {
            entry.state = State::Ready;
            self.window.requeue(index, seq);
        }
    }

    fn drop_waiting(&mut self, partition: u32) {
        let state = &mut self.partitions[partition as usize];
        state.gated.clear();
        state.troubled = 0;
        self.window.drop_waiting(partition);
    }

    /// Wakes parked heads that hold up half a bound. Walks lanes, so it runs only when the window has grown by a
    /// sixteenth since the last look.
    fn relieve_crowding(&mut self) {
        let half = self.limits.in_flight.div_ceil(2);
        let span_half = self.limits.span.div_ceil(2);
        if self.parked.is_empty() {
            self.crowd_check = 0;
            return;
        }
        let fullest = self.partitions.iter().map(|state| state.tracker.span()).max().unwrap_or(0);
        let full = self.window.len().max(fullest);
        if (self.window.len() < half && fullest < span_half) || full < self.crowd_check {
            return;
        }
        self.crowd_check = full + (self.limits.in_flight / 16).max(1);
        let crowding: Vec<(u32, u64)> = self
            .parked
            .iter()
            .map(|Reverse((_, seq, index))| (*index, *seq))
            .filter(|(index, seq)| {
                self.window.get(*index, *seq).is_some_and(|entry| {
                    let tracker = &self.partitions[entry.partition as usize].tracker;
                    entry.state == State::Parked
                        && !entry.troubled
                        && (self.window.lane_len(*index) >= half || tracker.span_from(entry.ordinal) >= span_half)
                })
            })
            .collect();
        for (index, seq) in crowding {
            self.window.entry_mut(index).crowded = true;
            self.unpark(index, seq);
        }
    }
}

/// The lane of a delivery without a key while a start of a lost assignment may still be running on the same message.
fn self_lane(partition: u32, position: Position) -> u64 {
    use std::hash::BuildHasher;
    foldhash::fast::FixedState::default().hash_one((partition, position)).max(1)
}

impl<T, N> std::fmt::Debug for Engine<T, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("in_flight", &self.window.len()).field("parked", &self.parked.len()).finish()
    }
}
