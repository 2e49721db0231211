//! [`Gate`]: holds a thread of the client where a race is to be decided, by what the client traces.

use std::{
    sync::{Arc, OnceLock},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing::{Event, Metadata, Subscriber, field};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _, registry::Registry};

/// The broker's answer comes by then: the client looks at its socket with each heartbeat at the latest.
const ANSWERED: Duration = Duration::from_secs(5);
/// How long a word of the broker stays half read: time enough for whoever looks to take what is there, and to answer.
const HALF_READ: Duration = Duration::from_millis(100);

/// Which thread is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hold {
    #[default]
    Nobody,
    /// Whoever publishes, at every other message, until the broker has answered it: the answer is there before he looks.
    Publishing,
    /// Whoever reads, within the next word that confirms many, once it has completed the first of them.
    Reading,
}

/// Both ends of the client.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    hold: Hold,
    publishing: Option<ThreadId>,
    sent: u64,
    answered: u64,
    /// Confirmed so far by the word that is being read.
    at_once: u64,
    held: u64,
}

impl Gate {
    /// The one of this process, which takes in what the client traces from now on.
    pub(crate) fn installed() -> Self {
        static GATE: OnceLock<Gate> = OnceLock::new();
        let install = || {
            let gate = Self::default();
            tracing::subscriber::set_global_default(Registry::default().with(gate.clone())).unwrap();
            gate
        };
        GATE.get_or_init(install).clone()
    }

    /// From now on.
    pub(crate) fn hold(&self, hold: Hold) {
        *self.state() = State { hold, ..State::default() };
        self.0.1.notify_all();
    }

    /// How often a thread was held until what was to be waited for was there.
    pub(crate) fn held(&self) -> u64 {
        self.state().held
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock()
    }

    fn happened(&self, what: &str) {
        let mut state = self.state();
        match what {
            _ if what.starts_with("Publishing with delivery_tag") => {
                state.sent += 1;
                state.publishing = Some(thread::current().id());
            }
            // Its frames are queued; the first look for the answer comes next.
            "wake" if state.publishing == Some(thread::current().id()) => {
                state.publishing = None;
                let is_held = state.hold == Hold::Publishing && state.sent.is_multiple_of(2);
                if is_held && self.wait(&mut state, ANSWERED, |state| state.answered == state.sent) {
                    state.held += 1;
                }
            }
            "Resolving promise. [acknowledgement]" => {
                state.answered += 1;
                self.0.1.notify_all();
                state.at_once += 1;
                // The promise is completed after this.
                if state.hold == Hold::Reading && state.at_once == 2 {
                    (state.hold, state.held) = (Hold::Nobody, state.held + 1);
                    self.wait(&mut state, HALF_READ, |_| false);
                }
            }
            "will handle frame" => state.at_once = 0,
            _ => {}
        }
    }

    fn wait(&self, state: &mut MutexGuard<'_, State>, limit: Duration, done: impl Fn(&State) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        !self.0.1.wait_while_until(state, |state| !done(state), deadline).timed_out()
    }
}

impl<S: Subscriber> Layer<S> for Gate {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target().starts_with("lapin")
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let Text { message, promise } = text;
        self.happened(format!("{message} {promise}").trim());
    }
}

/// What an event says, and of which promise.
#[derive(Default)]
struct Text {
    message: String,
    promise: String,
}

impl field::Visit for Text {
    fn record_debug(&mut self, field: &field::Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "promise" => self.promise = format!("{value:?}"),
            _ => {}
        }
    }
}
