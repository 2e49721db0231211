//! [`MemberPlan`]: everything about a member that its process has to be told, as plain data.

use std::{sync::Arc, time::Duration};

use messaging::{FailurePolicy, OnDeadLetter, OnUnhandled, Position, Route, Router, Start};
use serde::{Deserialize, Serialize};

use super::{Gates, Recorder, acting::Acting};

/// How a member is run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemberPlan {
    pub(crate) group: String,
    pub(crate) topics: Vec<String>,
    /// Handles only events of these names; every message if there is none.
    pub(crate) events: Vec<String>,
    pub(crate) start: StartAt,
    pub(crate) concurrency: usize,
    pub(crate) max_in_flight: usize,
    pub(crate) max_in_flight_bytes: usize,
    pub(crate) max_span: usize,
    pub(crate) revoke_drain: Duration,
    pub(crate) attempts: u32,
    pub(crate) timeout: Duration,
    pub(crate) backoff: Duration,
    pub(crate) hold_key: bool,
    pub(crate) dead_letter_unhandled: bool,
}

/// [`Start`], as data.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum StartAt {
    Default,
    Earliest,
    Latest,
    Position { major: u64, minor: u64 },
}

impl From<StartAt> for Start {
    fn from(start: StartAt) -> Self {
        match start {
            StartAt::Default => Self::Default,
            StartAt::Earliest => Self::Earliest,
            StartAt::Latest => Self::Latest,
            StartAt::Position { major, minor } => Self::Position(Position { major, minor }),
        }
    }
}

impl MemberPlan {
    /// Sixteen handlers at once, three attempts without much of a pause.
    pub(crate) fn new(group: &str, topics: &[&str]) -> Self {
        Self {
            group: group.to_owned(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            events: Vec::new(),
            start: StartAt::Default,
            concurrency: 16,
            max_in_flight: 1_000,
            max_in_flight_bytes: 64 * 1024 * 1024,
            max_span: 100_000,
            revoke_drain: Duration::from_secs(1),
            attempts: 3,
            timeout: Duration::from_secs(30),
            backoff: Duration::from_millis(20),
            hold_key: false,
            dead_letter_unhandled: false,
        }
    }

    pub(crate) fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers;
        self
    }

    pub(crate) fn backoff(mut self, backoff: Duration) -> Self {
        self.backoff = backoff;
        self
    }

    pub(crate) fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    pub(crate) fn start(mut self, start: StartAt) -> Self {
        self.start = start;
        self
    }

    pub(crate) fn policy(&self) -> FailurePolicy {
        let on_dead_letter = if self.hold_key { OnDeadLetter::HoldKey } else { OnDeadLetter::Continue };
        FailurePolicy::default()
            .max_attempts(self.attempts)
            .timeout(self.timeout)
            .backoff(self.backoff, self.backoff * 4)
            .on_dead_letter(on_dead_letter)
    }

    /// The group's router, without handlers.
    pub(crate) fn bare_router(&self) -> Router {
        let on_unhandled = if self.dead_letter_unhandled { OnUnhandled::DeadLetter } else { OnUnhandled::Skip };
        let router = Router::new(self.group.as_str())
            .failure_policy(self.policy())
            .on_unhandled(on_unhandled)
            .concurrency(self.concurrency)
            .max_in_flight(self.max_in_flight)
            .max_in_flight_bytes(self.max_in_flight_bytes)
            .max_span(self.max_span)
            .start(self.start.into())
            .revoke_drain(self.revoke_drain);
        self.topics.iter().fold(router, |router, topic| router.topic(topic.as_str()))
    }

    /// The group's router, its handlers acting by the messages' scripts.
    pub(crate) fn router(&self, recorder: &Arc<Recorder>, gates: &Arc<Gates>) -> Router {
        let acting = Acting::new(recorder.clone(), gates.clone());
        let handler = move |delivery| {
            let acting = acting.clone();
            async move { acting.handle(delivery).await }
        };
        if self.events.is_empty() {
            let routes = self.topics.iter().map(|topic| Route::message(topic.as_str(), handler.clone()));
            routes.fold(self.bare_router(), Router::route)
        } else {
            let routes = self.events.iter().map(|event| Route::event(event.as_str(), handler.clone()));
            routes.fold(self.bare_router(), Router::route)
        }
    }
}
