//! [`run`]: drives the engine by a schedule as a consumer and its workers do, then lets everything come to its end.

use std::time::Duration;

use super::{
    Message,
    broker::Broker,
    history::{End, History, Started},
    model::Model,
    ms,
    schedule::{Schedule, Step},
};
use crate::{
    engine::{Engine, EntryId, Limits, Start, Verdict},
    time::Tick,
};

/// What a run is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judge {
    /// The delivery contract alone.
    History,
    /// That, and the model's answer to each call.
    HistoryAndModel,
}

/// Runs a schedule; panics at the first violation. Answers how many starts there were.
pub(super) fn run(schedule: &Schedule, judge: Judge) -> u64 {
    let mut simulation = Simulation::new(schedule, judge);
    for log in 0..simulation.broker.logs.len() {
        simulation.assign(log);
    }
    for step in &schedule.steps {
        simulation.step(step);
        simulation.check();
    }
    simulation.run_down();
    simulation.stop();
    simulation.history.starts
}

pub(super) struct Simulation {
    engine: Engine<Message, u32>,
    model: Option<Model>,
    pub(super) history: History,
    pub(super) broker: Broker,
    limits: Limits,
    gated: bool,
    pub(super) now: Tick,
    /// How far the clock of validity is ahead.
    suspended: Duration,
    pub(super) out: Vec<Out>,
    /// Futures to be dropped.
    cancels: Vec<EntryId>,
    notes: u32,
}

/// A start that a worker has.
pub(super) struct Out {
    pub(super) start: Start<Message, u32>,
    /// As the history knows it.
    started: Started,
    /// Not begun: it may be given back.
    fresh: bool,
}

impl Simulation {
    pub(super) fn new(schedule: &Schedule, judge: Judge) -> Self {
        Self {
            engine: Engine::new(schedule.limits),
            model: (judge == Judge::HistoryAndModel).then(|| Model::new(schedule.limits)),
            history: History::default(),
            broker: Broker::new(&schedule.logs, schedule.hashing, schedule.settling),
            limits: schedule.limits,
            gated: schedule.gated,
            now: ms(1000),
            suspended: Duration::ZERO,
            out: Vec::new(),
            cancels: Vec::new(),
            notes: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Fill { partition, max } => self.fill(self.log(partition), max),
            Step::Late { partition } => self.push_late(self.log(partition)),
            Step::Take { max } => self.take(self.gate(), max),
            Step::TakeWithoutGate { max } => self.take(None, max),
            Step::GiveBack { which } => {
                let fresh: Vec<usize> = (0..self.out.len()).filter(|at| self.out[*at].fresh).collect();
                if !fresh.is_empty() {
                    self.give_back(fresh[which % fresh.len()]);
                }
            }
            Step::Succeed { which } => self.finish_one(which, Verdict::Finished),
            Step::Fail { which, back_off, counted } => {
                self.notes += 1;
                let (until, note) = (self.after(back_off), Some(Box::new(self.notes)));
                self.finish_one(which, Verdict::Park { until, counted, note });
            }
            Step::GiveUp { which, drain } => {
                self.finish_one(which, Verdict::GiveUp { drain_until: self.after(drain) });
            }
            Step::Pass { millis } => {
                self.now = self.after(millis);
                self.look();
            }
            Step::Suspend { millis } => self.suspended += Duration::from_millis(millis),
            Step::Settle => self.settle_and_release(),
            Step::ServeCancels { most } => self.serve_cancels(most),
            Step::Assign { partition } => self.assign(self.log(partition)),
            Step::Renew { partition, millis } => self.renew(self.log(partition), millis),
            Step::Revoke { partition, drain } => self.revoke(self.log(partition), self.after(drain)),
            Step::Lose { partition, settled_by_others, back } => {
                self.lose(self.log(partition), settled_by_others);
                if back {
                    self.assign(self.log(partition));
                }
            }
            Step::RevokeAll { drain } => self.revoke_all(self.after(drain)),
        }
    }

    fn log(&self, number: usize) -> usize {
        number % self.broker.logs.len()
    }

    pub(super) fn after(&self, millis: u64) -> Tick {
        self.now + Duration::from_millis(millis)
    }

    pub(super) fn gate(&self) -> Option<Tick> {
        self.gated.then(|| self.now + self.suspended)
    }

    pub(super) fn assign(&mut self, log: usize) {
        if self.broker.logs[log].handle.is_some() {
            return;
        }
        let epoch = self.broker.assign(log);
        let number = self.broker.logs[log].number;
        let handle = self.engine.assign(number, epoch, 0);
        self.broker.logs[log].handle = Some(handle);
        self.history.assigned(log, epoch);
        if let Some(model) = &mut self.model {
            model.assign(handle, number, epoch);
        }
        self.renew(log, 15);
    }

    pub(super) fn renew(&mut self, log: usize, millis: u64) {
        let (Some(handle), Some(now)) = (self.broker.logs[log].handle, self.gate()) else { return };
        let valid_until = now + Duration::from_millis(millis);
        self.engine.renew(handle, valid_until);
        self.history.renewed(log, valid_until);
        if let Some(model) = &mut self.model {
            model.renew(handle, valid_until);
        }
    }

    pub(super) fn revoke(&mut self, log: usize, deadline: Tick) {
        let Some(handle) = self.broker.logs[log].handle else { return };
        self.engine.revoke(handle, deadline);
        self.history.revoked(log);
        if let Some(model) = &mut self.model {
            model.revoke(handle, deadline);
        }
    }

    fn revoke_all(&mut self, deadline: Tick) {
        self.engine.revoke_all(deadline);
        for log in 0..self.broker.logs.len() {
            if self.broker.logs[log].handle.is_some() {
                self.history.revoked(log);
            }
        }
        if let Some(model) = &mut self.model {
            model.revoke_all(deadline);
        }
    }

    pub(super) fn lose(&mut self, log: usize, settled_by_others: usize) {
        let Some(handle) = self.broker.logs[log].handle.take() else { return };
        self.engine.lose(handle);
        self.history.lost(log);
        self.broker.settle_elsewhere(log, settled_by_others);
        if let Some(model) = &mut self.model {
            model.lose(handle);
        }
    }

    pub(super) fn fill(&mut self, log: usize, max: usize) {
        let Some(handle) = self.broker.logs[log].handle else { return };
        let mut fetched = 0;
        for _ in 0..self.engine.credit(handle).min(max) {
            let Some(incoming) = self.broker.next(log) else { break };
            fetched += incoming.bytes;
            self.history.delivered(log, incoming.position, self.broker.lane(incoming.item));
            if let Some(model) = &mut self.model {
                model.push(handle, &incoming);
            }
            self.engine.push(handle, incoming);
        }
        assert!(self.history.in_flight() <= self.limits.in_flight, "more is in flight than may be");
        assert!(self.history.span(log) <= self.limits.span, "more than the span is delivered past the watermark");
        if let Some(model) = &self.model {
            let before = model.bytes() - fetched;
            assert!(fetched == 0 || before < self.limits.bytes, "more bytes are held than the cap and one fetch");
        }
    }

    fn push_late(&mut self, log: usize) {
        let Some(handle) = self.broker.logs[log].handle.filter(|_| self.history.is_revoked(log)) else { return };
        if let Some(incoming) = self.broker.next(log) {
            self.engine.push(handle, incoming);
        }
    }

    pub(super) fn take(&mut self, gate: Option<Tick>, max: usize) {
        let mut starts = Vec::new();
        self.engine.take(gate, max, |start| starts.push(start));
        self.out.iter_mut().for_each(|out| out.fresh = false);
        let started = |start: &Start<Message, u32>| Started {
            id: start.id,
            log: start.item.log,
            epoch: start.epoch,
            position: start.position,
            lane: self.broker.lane(start.item),
            crowded: start.crowded(),
        };
        for start in &starts {
            self.history.started(started(start), self.now, gate);
        }
        if let Some(model) = &mut self.model {
            model.take(gate, max, &starts, |id| self.engine.held(id).map(|(_, handle)| handle));
        }
        self.out.extend(starts.into_iter().map(|start| Out { started: started(&start), start, fresh: true }));
    }

    fn give_back(&mut self, at: usize) {
        let out = self.out.swap_remove(at);
        self.history.ended(out.started, End::GivenBack);
        if let Some(model) = &mut self.model {
            model.give_back(&out.start);
        }
        self.engine.give_back(out.start);
    }

    fn finish_one(&mut self, which: usize, verdict: Verdict<u32>) {
        if !self.out.is_empty() {
            self.finish(which % self.out.len(), verdict);
        }
    }

    pub(super) fn finish(&mut self, at: usize, verdict: Verdict<u32>) {
        let out = self.out.swap_remove(at);
        let end = match &verdict {
            Verdict::Finished => End::Finished,
            Verdict::Park { until, .. } => End::Parked(*until),
            Verdict::Dropped | Verdict::GiveUp { .. } => End::Dropped,
        };
        self.history.ended(out.started, end);
        if matches!(verdict, Verdict::GiveUp { .. }) {
            self.history.given_up(out.started);
        }
        if let Some(model) = &mut self.model {
            model.finish(out.start.id.seq, &verdict);
        }
        match verdict {
            // Both ways must do the same.
            Verdict::Finished if at.is_multiple_of(2) => self.engine.complete(out.start.id),
            verdict => self.engine.finish(out.start.id, verdict),
        }
    }

    /// As a worker does: only if the engine wants to be looked at.
    pub(super) fn look(&mut self) {
        if self.engine.next_deadline().is_none_or(|deadline| deadline > self.now) {
            return;
        }
        self.engine.advance(self.now);
        let next = self.engine.next_deadline();
        assert!(next.is_none_or(|next| next > self.now), "a look at {:?}, and again at {next:?}", self.now);
        if let Some(model) = &mut self.model {
            model.advance(self.now, &self.engine);
        }
    }

    pub(super) fn serve_cancels(&mut self, most: usize) {
        let told: Vec<EntryId> = self.engine.cancels().collect();
        if let Some(model) = &mut self.model {
            model.cancels(&told);
        }
        self.cancels.extend(told);
        // What ended in the meantime needs no cancelling.
        self.cancels.retain(|id| self.engine.is_running(*id));
        let served = most.min(self.cancels.len());
        for id in self.cancels.drain(..served).collect::<Vec<_>>() {
            if let Some(at) = self.out.iter().position(|out| out.start.id == id) {
                self.finish(at, Verdict::Dropped);
            }
        }
    }

    pub(super) fn settle_and_release(&mut self) {
        self.engine.settlements().each(|settled| {
            let log = self.broker.log_of(settled.partition);
            self.history.settled(log, settled.epoch, settled.finished, settled.through);
            if let Some(model) = &mut self.model {
                model.settle(settled.partition, settled.epoch, settled.finished, settled.through);
            }
            self.broker.settle(log, settled.finished, settled.through);
        });
        self.history.all_is_settled();
        while let Some(handle) = self.engine.drained() {
            let log = self.broker.log_of(handle);
            self.history.released(log);
            self.broker.logs[log].handle = None;
            if let Some(model) = &mut self.model {
                model.release(handle);
            }
        }
        assert_eq!(self.history.drained().next(), None, "nothing of this log runs, and it is not released");
    }

    pub(super) fn check(&mut self) {
        for out in &self.out {
            assert!(self.engine.is_running(out.start.id), "{:?} is out, and does not run", out.started);
            let item = (!self.history.is_lost(&out.started)).then_some(&out.start.item);
            assert_eq!(self.engine.item(out.start.id), item, "an item is to be had unless its partition is lost");
        }
        if let Some(model) = &mut self.model {
            model.check(&self.engine);
            for handle in self.broker.logs.iter().filter_map(|log| log.handle) {
                assert_eq!(self.engine.credit(handle), model.credit(handle), "credit");
            }
        }
    }

    /// From here on all goes well: everything must be finished and settled.
    fn run_down(&mut self) {
        while let Some(unsettled) = self.broker.first_unsettled() {
            let before = self.history.progress;
            for log in 0..self.broker.logs.len() {
                self.assign(log);
                self.renew(log, 1_000_000);
                self.fill(log, usize::MAX);
            }
            self.look();
            self.serve_cancels(usize::MAX);
            self.take(self.gate(), 16);
            while !self.out.is_empty() {
                self.finish(0, Verdict::Finished);
            }
            self.settle_and_release();
            self.check();
            if before == self.history.progress {
                match self.engine.next_deadline() {
                    Some(deadline) if deadline > self.now => self.now = deadline,
                    _ => panic!("{unsettled:?} never comes to its end"),
                }
            }
        }
    }

    /// The end: nothing is held any more.
    pub(super) fn stop(&mut self) {
        while !self.out.is_empty() {
            self.finish(0, Verdict::Finished);
        }
        self.revoke_all(self.after(10));
        self.settle_and_release();
        self.serve_cancels(0);
        self.check();
        assert!(!self.engine.holds_partitions(), "stopped, and a partition is held");
        assert_eq!(self.engine.next_deadline(), None);
        assert!(self.engine.is_blank(), "something is left: {:?}", self.engine);
    }
}
