//! What the engine must answer when it is asked.

use super::{Model, Phase, Stage};
use crate::{
    engine::{Engine, tests::Message},
    time::Tick,
};

impl Model {
    /// Holds what can be asked of the engine against what is.
    pub(in crate::engine::tests) fn check(&mut self, engine: &Engine<Message, u32>) {
        let len = self.items.len();
        assert_eq!(engine.in_flight(), len, "in flight");
        assert_eq!(engine.ready(), self.ready(), "ready");
        assert_eq!(engine.holds_partitions(), self.holds_partitions(), "holds partitions");
        let starved = self.ready() == 0 && len < self.limits.in_flight;
        assert_eq!(engine.is_hungry(), len * 2 <= self.limits.in_flight || starved, "hungry");
        let parked = self.items.iter().filter_map(|item| match item.stage {
            Stage::Parked(until) => Some((item.message, until)),
            _ => None,
        });
        let (mut parked, mut told): (Vec<_>, Vec<_>) =
            (parked.collect(), engine.parked().map(|(message, .., until)| (*message, until)).collect());
        parked.sort();
        told.sort();
        assert_eq!(told, parked, "parked");
        let running = self.items.iter().filter(|item| item.stage == Stage::Running);
        let (mut running, mut told): (Vec<_>, Vec<_>) =
            (running.map(|item| item.message).collect(), engine.running().map(|(message, ..)| *message).collect());
        running.sort();
        told.sort();
        assert_eq!(told, running, "running");
        // To see what crowds, it may want to be looked at whenever it has taken something in, or parked what crowds.
        let (told, due) = (engine.next_deadline(), self.next_deadline());
        let overdue = (0..len).any(|at| self.crowding_is_overdue(at));
        assert!(!overdue || told == Some(Tick::default()), "a head crowds, and no look is wanted before {told:?}");
        let reason = self.pushed > self.looked_at || self.look_is_wanted;
        let crowding = told == Some(Tick::default()) && !parked.is_empty() && reason;
        assert!(told == due || crowding, "wants a look at {told:?}, and not {due:?}");
    }

    pub(in crate::engine::tests) fn credit(&self, handle: u32) -> usize {
        let index = self.by_handle[&handle];
        let troubled = self.items.iter().any(|item| item.assignment == index && item.troubled);
        if self.assignments[index].phase != Phase::Assigned || troubled || self.bytes() >= self.limits.bytes {
            return 0;
        }
        let window = self.limits.in_flight.saturating_sub(self.items.len());
        window.min(self.limits.span.saturating_sub(self.span(handle)))
    }

    fn span(&self, handle: u32) -> usize {
        let marks = &self.assignments[self.by_handle[&handle]].marks;
        marks.len() - marks.iter().take_while(|(_, finished)| *finished).count()
    }

    pub(in crate::engine::tests) fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.bytes).sum()
    }

    fn ready(&self) -> usize {
        (0..self.items.len()).filter(|at| self.may_start(*at)).count()
    }

    fn next_deadline(&self) -> Option<Tick> {
        let parked = self.items.iter().filter_map(|item| match item.stage {
            Stage::Parked(until) => Some(until),
            _ => None,
        });
        let revoking = self.assignments.iter().filter_map(|assignment| match assignment.phase {
            Phase::Revoking { deadline, cancelled: false } => Some(deadline),
            _ => None,
        });
        parked.chain(revoking).min()
    }

    fn holds_partitions(&self) -> bool {
        self.assignments.iter().any(|ours| matches!(ours.phase, Phase::Assigned | Phase::Revoking { .. }))
    }
}
