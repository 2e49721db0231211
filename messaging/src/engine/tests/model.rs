//! [`Model`]: what the engine must answer at each step, worked out the slow and obvious way.

mod answers;

use std::collections::HashMap;

use super::Message;
use crate::{
    delivery::Position,
    engine::{Engine, EntryId, Incoming, Limits, Start, Verdict},
    time::Tick,
};

pub(super) struct Model {
    limits: Limits,
    /// The window, in the order of arrival.
    items: Vec<Item>,
    /// Every assignment there was; items name theirs by index.
    assignments: Vec<Assignment>,
    by_handle: HashMap<u32, usize>,
    pushed: u64,
    /// How many had been pushed at the last look.
    looked_at: u64,
    /// Since then one was parked that crowded at once.
    look_is_wanted: bool,
    /// Starts whose futures are to be dropped, as sequence numbers.
    cancels: Vec<u64>,
}

struct Item {
    seq: u64,
    assignment: usize,
    position: Position,
    lane: Option<u64>,
    bytes: usize,
    ordinal: usize,
    stage: Stage,
    /// Without a key, and pushed while a start of the same message under a lost assignment was out.
    behind_orphan: bool,
    attempts: u32,
    deaths: u32,
    troubled: bool,
    crowded: bool,
    note: Option<u32>,
    message: Message,
    /// How many will have been pushed when it is to have been seen that it is parked with a crowd behind it.
    crowd_due: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    /// Refused once because the validity had lapsed; until a renewal.
    Gated,
    Running,
    Parked(Tick),
}

struct Assignment {
    handle: u32,
    number: u32,
    epoch: u64,
    phase: Phase,
    valid_until: Option<Tick>,
    /// Every delivery, and whether it is finished.
    marks: Vec<(Position, bool)>,
    unsettled: Vec<Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Assigned,
    Revoking { deadline: Tick, cancelled: bool },
    Lost,
    Released,
}

impl Model {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            items: Vec::new(),
            assignments: Vec::new(),
            by_handle: HashMap::new(),
            pushed: 0,
            looked_at: 0,
            look_is_wanted: false,
            cancels: Vec::new(),
        }
    }

    pub(super) fn assign(&mut self, handle: u32, number: u32, epoch: u64) {
        if let Some(before) = self.by_handle.get(&handle) {
            let ended = match self.assignments[*before].phase {
                Phase::Released => true,
                Phase::Lost => self.running(*before) == 0,
                Phase::Assigned | Phase::Revoking { .. } => false,
            };
            assert!(ended, "handle {handle} is given to two partitions");
        }
        self.by_handle.insert(handle, self.assignments.len());
        self.assignments.push(Assignment {
            handle,
            number,
            epoch,
            phase: Phase::Assigned,
            valid_until: None,
            marks: Vec::new(),
            unsettled: Vec::new(),
        });
    }

    pub(super) fn push(&mut self, handle: u32, incoming: &Incoming<Message>) {
        let assignment = self.by_handle[&handle];
        if self.assignments[assignment].phase != Phase::Assigned {
            return;
        }
        self.pushed += 1;
        let marks = &mut self.assignments[assignment].marks;
        marks.push((incoming.position, false));
        let ordinal = marks.len() - 1;
        self.items.push(Item {
            seq: self.pushed,
            assignment,
            position: incoming.position,
            lane: incoming.lane.map(|hash| hash.max(1)),
            bytes: incoming.bytes,
            ordinal,
            stage: Stage::Idle,
            behind_orphan: incoming.lane.is_none()
                && self.has_orphan(self.assignments[assignment].number, incoming.position),
            attempts: 0,
            deaths: incoming.deaths,
            troubled: false,
            crowded: false,
            note: None,
            message: incoming.item,
            crowd_due: None,
        });
    }

    /// Holds a round of starts against what may start, the oldest first.
    pub(super) fn take(
        &mut self,
        gate: Option<Tick>,
        max: usize,
        starts: &[Start<Message, u32>],
        handle_of: impl Fn(EntryId) -> Option<u32>,
    ) {
        let mut starts = starts.iter();
        let mut left = max;
        for at in 0..self.items.len() {
            if left == 0 || !self.may_start(at) {
                continue;
            }
            let assignment = &self.assignments[self.items[at].assignment];
            let item = &mut self.items[at];
            if assignment.valid_until.is_some_and(|until| gate.is_none_or(|now| now >= until)) {
                item.stage = Stage::Gated;
                continue;
            }
            let Some(start) = starts.next() else { panic!("{:?} may start, and was not taken", item.message) };
            left -= 1;
            item.stage = Stage::Running;
            assert_eq!((start.id.seq, start.item), (item.seq, item.message), "the oldest that is ready starts first");
            assert_eq!((handle_of(start.id), start.number), (Some(assignment.handle), assignment.number));
            assert_eq!((start.position, start.epoch), (item.position, assignment.epoch));
            assert_eq!((start.attempts(), start.deaths()), (item.attempts, item.deaths));
            assert_eq!(start.crowded(), std::mem::take(&mut item.crowded), "crowded: {:?}", item.message);
            assert_eq!(start.note(), item.note.take(), "note of {:?}", item.message);
        }
        assert!(starts.next().is_none(), "more was taken than may start");
    }

    pub(super) fn give_back(&mut self, start: &Start<Message, u32>) {
        let at = self.at(start.id.seq);
        if self.assignments[self.items[at].assignment].phase == Phase::Assigned {
            let item = &mut self.items[at];
            item.stage = Stage::Idle;
            item.crowded = start.crowded();
            item.note = start.note();
        } else {
            self.finish(start.id.seq, &Verdict::Dropped);
        }
    }

    pub(super) fn finish(&mut self, seq: u64, verdict: &Verdict<u32>) {
        let at = self.at(seq);
        let item = &mut self.items[at];
        assert_eq!(item.stage, Stage::Running);
        let index = item.assignment;
        let assignment = &mut self.assignments[index];
        match verdict {
            Verdict::Park { until, counted, note } if assignment.phase == Phase::Assigned => {
                item.stage = Stage::Parked(*until);
                item.attempts += u32::from(*counted);
                item.troubled = !counted;
                item.note = note.as_deref().copied();
                item.crowd_due = None;
                if self.crowds(at) {
                    self.items[at].crowd_due = Some(self.pushed);
                    self.look_is_wanted = true;
                }
                return;
            }
            Verdict::Finished if assignment.phase != Phase::Lost => {
                assignment.marks[item.ordinal].1 = true;
                assignment.unsettled.push(item.position);
            }
            _ => {}
        }
        self.items.remove(at);
        self.free_behind_orphans();
        if let Verdict::GiveUp { drain_until } = verdict {
            let handle = self.assignments[index].handle;
            if self.by_handle[&handle] == index {
                self.revoke(handle, *drain_until);
            }
        }
    }

    pub(super) fn renew(&mut self, handle: u32, valid_until: Tick) {
        let index = self.by_handle[&handle];
        self.assignments[index].valid_until = Some(valid_until);
        for item in &mut self.items {
            if item.assignment == index && item.stage == Stage::Gated {
                item.stage = Stage::Idle;
            }
        }
    }

    pub(super) fn revoke(&mut self, handle: u32, deadline: Tick) {
        let index = self.by_handle[&handle];
        match &mut self.assignments[index].phase {
            phase @ Phase::Assigned => {
                *phase = Phase::Revoking { deadline, cancelled: false };
                self.drop_waiting(index);
            }
            Phase::Revoking { deadline: before, .. } => *before = deadline.min(*before),
            Phase::Lost | Phase::Released => {}
        }
    }

    pub(super) fn revoke_all(&mut self, deadline: Tick) {
        let handles: Vec<u32> = self.by_handle.keys().copied().collect();
        handles.into_iter().for_each(|handle| self.revoke(handle, deadline));
    }

    pub(super) fn lose(&mut self, handle: u32) {
        let index = self.by_handle[&handle];
        self.assignments[index].phase = Phase::Lost;
        self.assignments[index].unsettled.clear();
        self.drop_waiting(index);
        let running = self.items.iter().filter(|item| item.assignment == index && item.stage == Stage::Running);
        self.cancels.extend(running.map(|item| item.seq));
    }

    /// The engine was looked at.
    pub(super) fn advance(&mut self, now: Tick, engine: &Engine<Message, u32>) {
        self.looked_at = self.pushed;
        self.look_is_wanted = false;
        let parked: Vec<_> = engine.parked().map(|(message, .., until)| (*message, until)).collect();
        for index in 0..self.assignments.len() {
            if let Phase::Revoking { deadline, cancelled } = &mut self.assignments[index].phase
                && *deadline <= now
                && !std::mem::replace(cancelled, true)
            {
                let running = self.items.iter().filter(|item| item.assignment == index && item.stage == Stage::Running);
                self.cancels.extend(running.map(|item| item.seq));
            }
        }
        for at in 0..self.items.len() {
            let Stage::Parked(until) = self.items[at].stage else { continue };
            let still = parked.contains(&(self.items[at].message, until));
            let crowds = self.crowds(at);
            let overdue = self.crowding_is_overdue(at);
            let item = &mut self.items[at];
            if until <= now {
                assert!(!still, "{:?} is due since {until:?}, now {now:?}", item.message);
                item.stage = Stage::Idle;
            } else if !still {
                assert!(crowds, "{:?} is woken at {now:?}, due {until:?}", item.message);
                item.crowded = true;
                item.stage = Stage::Idle;
            } else {
                assert!(!overdue, "{:?} crowds, and stays parked", item.message);
            }
        }
    }

    /// Holds one settlement against what was finished.
    pub(super) fn settle(&mut self, handle: u32, epoch: u64, finished: &[Position], through: Option<Position>) {
        let assignment = &mut self.assignments[self.by_handle[&handle]];
        assert_eq!(assignment.epoch, epoch);
        assert!(!finished.is_empty(), "a settlement of nothing");
        assert_eq!(finished, std::mem::take(&mut assignment.unsettled), "in the order of finishing");
        let below = assignment.marks.iter().take_while(|(_, finished)| *finished);
        assert_eq!(through, below.last().map(|(position, _)| *position));
    }

    pub(super) fn release(&mut self, handle: u32) {
        let index = self.by_handle[&handle];
        assert_eq!(self.running(index), 0, "released while it runs");
        self.assignments[index].phase = Phase::Released;
    }

    /// Holds what was told to be dropped against what is.
    pub(super) fn cancels(&mut self, told: &[EntryId]) {
        let mut told: Vec<u64> = told.iter().map(|id| id.seq).collect();
        told.sort();
        self.cancels.sort();
        assert_eq!(told, std::mem::take(&mut self.cancels), "futures to be dropped");
    }

    /// Idle, at the head of its lane, and no orphan of it runs.
    fn may_start(&self, at: usize) -> bool {
        let item = &self.items[at];
        let is_head = item.lane.is_none() || self.items[..at].iter().all(|before| before.lane != item.lane);
        item.stage == Stage::Idle && is_head && !item.behind_orphan
    }

    /// Whether what waits behind a parked head fills half a bound, and more than a few.
    fn crowds(&self, at: usize) -> bool {
        let item = &self.items[at];
        let in_lane = self.items[at + 1..].iter().filter(|after| item.lane.is_some() && after.lane == item.lane);
        let in_log = self.assignments[item.assignment].marks.len() - item.ordinal - 1;
        let crowd = |bound: usize| bound.div_ceil(2).max(16);
        !item.troubled && (in_lane.count() >= crowd(self.limits.in_flight) || in_log >= crowd(self.limits.span))
    }

    /// Whether this head crowded when it was parked, or a sixteenth of a bound was taken in since it was first seen to.
    fn crowding_is_overdue(&mut self, at: usize) -> bool {
        let slack = (self.limits.in_flight.min(self.limits.span) / 16).max(1) as u64;
        let crowds = matches!(self.items[at].stage, Stage::Parked(_)) && self.crowds(at);
        let due = crowds.then_some(self.items[at].crowd_due.unwrap_or(self.pushed + slack));
        self.items[at].crowd_due = due;
        due.is_some_and(|due| self.pushed >= due)
    }

    fn has_orphan(&self, number: u32, position: Position) -> bool {
        self.items.iter().any(|item| {
            let assignment = &self.assignments[item.assignment];
            assignment.phase == Phase::Lost && assignment.number == number && item.position == position
        })
    }

    fn free_behind_orphans(&mut self) {
        for at in 0..self.items.len() {
            let item = &self.items[at];
            let behind = item.behind_orphan && {
                let number = self.assignments[item.assignment].number;
                self.has_orphan(number, item.position)
            };
            self.items[at].behind_orphan = behind;
        }
    }

    fn drop_waiting(&mut self, assignment: usize) {
        self.items.retain(|item| item.assignment != assignment || item.stage == Stage::Running);
    }

    fn running(&self, assignment: usize) -> usize {
        self.items.iter().filter(|item| item.assignment == assignment).count()
    }

    fn at(&self, seq: u64) -> usize {
        let found = self.items.iter().position(|item| item.seq == seq);
        found.unwrap_or_else(|| panic!("delivery {seq} is not in the window"))
    }
}
