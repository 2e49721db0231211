//! [`Pace`]: under load, the client is looked at once a millisecond and wakes nobody, as a network driver under load does
//! with its interrupts: to wake a thread costs several times what reading a message does, and the client, this program
//! and perhaps the broker share the processors.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// From one look to the next; the least that tokio's timers know.
pub(crate) const PAUSE: Duration = Duration::from_millis(1);
/// So much in that time is much.
pub(crate) const MANY: usize = 16;

#[derive(Default)]
pub(crate) struct Pace {
    pausing: bool,
    /// Since there was a pause.
    timer: Option<Pin<Box<Sleep>>>,
    /// How much has come since then.
    count: usize,
    since: Option<Instant>,
}

impl Pace {
    /// Waits for the end of the pause, if there is one.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pausing
            && let Some(timer) = &mut self.timer
        {
            ready!(timer.as_mut().poll(cx));
            self.pausing = false;
        }
        Poll::Ready(())
    }

    /// So much has come.
    pub(crate) fn note(&mut self, count: usize) {
        self.count += count;
    }

    /// Begins a pause if much has come lately; counts anew if so, or if enough time has passed. Answers whether it has
    /// begun.
    pub(crate) fn pause(&mut self) -> bool {
        if self.count == 0 {
            return false;
        }
        let now = Instant::now();
        let many = self.count >= MANY;
        if many || self.since.is_none_or(|since| now - since >= PAUSE) {
            (self.count, self.since) = (0, Some(now));
        }
        if many {
            let end = now + PAUSE;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(end),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(end))),
            }
            self.pausing = true;
        }
        many
    }
}
