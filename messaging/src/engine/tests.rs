//! The engine under random schedules: a broker that redelivers, an executor that is late, a clock that jumps.
//!
//! [`simulation`] drives the engine by a [`schedule`]. [`model`] says what it must answer at each step; [`history`]
//! knows nothing of schedulers and holds what happened against the delivery contract. [`properties`] shows that these
//! two find bugs.

mod broker;
mod history;
mod model;
mod properties;
mod rules;
mod scale;
mod schedule;
mod simulation;
mod watermark;

use std::time::Duration;

use crate::time::Tick;

/// What the engine carries for a handler here: the index of a log, and of an entry in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Message {
    log: usize,
    index: usize,
}

fn ms(millis: u64) -> Tick {
    Tick::from_start(Duration::from_millis(millis))
}

impl<T> super::Start<T, u32> {
    fn attempts(&self) -> u32 {
        self.past.as_ref().map_or(0, |past| past.attempts)
    }

    fn deaths(&self) -> u32 {
        self.past.as_ref().map_or(0, |past| past.deaths)
    }

    fn crowded(&self) -> bool {
        self.past.as_ref().is_some_and(|past| past.crowded)
    }

    fn note(&self) -> Option<u32> {
        self.past.as_ref().and_then(|past| past.note.as_deref().copied())
    }
}
