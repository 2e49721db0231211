//! [`Tickets`]: the callers that wait for answers, in a slab, so that waiting allocates nothing.

use std::task::{Poll, Waker};

use crate::publisher::Outcome;

/// The answers to one call.
pub(super) enum Answers {
    One(Option<Outcome>),
    Many(Vec<Option<Outcome>>),
}

impl Answers {
    fn set(&mut self, index: u32, outcome: Outcome) {
        match self {
            Self::One(answer) => *answer = Some(outcome),
            Self::Many(answers) => {
                if let Some(answer) = answers.get_mut(index as usize) {
                    *answer = Some(outcome);
                }
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Tickets {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    answers: Answers,
    missing: u32,
    waker: Option<Waker>,
    /// The caller has gone.
    abandoned: bool,
}

impl Tickets {
    /// A ticket that waits for `missing` answers.
    pub(super) fn open(&mut self, answers: Answers, missing: u32) -> u32 {
        let slot = Slot { answers, missing, waker: None, abandoned: false };
        match self.free.pop() {
            Some(ticket) => {
                self.slots[ticket as usize] = slot;
                ticket
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        }
    }

    /// Notes one answer; answers the waker of a caller that has all of its answers now.
    pub(super) fn answer(&mut self, ticket: u32, index: u32, outcome: Outcome) -> Option<Waker> {
        let slot = &mut self.slots[ticket as usize];
        slot.answers.set(index, outcome);
        slot.missing -= 1;
        if slot.missing > 0 {
            return None;
        }
        if slot.abandoned {
            self.close(ticket);
            return None;
        }
        slot.waker.take()
    }

    pub(super) fn poll(&mut self, ticket: u32, waker: &Waker) -> Poll<Answers> {
        let slot = &mut self.slots[ticket as usize];
        if slot.missing == 0 {
            return Poll::Ready(self.close(ticket));
        }
        match &mut slot.waker {
            Some(known) => known.clone_from(waker),
            None => slot.waker = Some(waker.clone()),
        }
        Poll::Pending
    }

    /// The caller goes without its answers.
    pub(super) fn abandon(&mut self, ticket: u32) {
        let slot = &mut self.slots[ticket as usize];
        slot.abandoned = true;
        slot.waker = None;
        if slot.missing == 0 {
            self.close(ticket);
        }
    }

    fn close(&mut self, ticket: u32) -> Answers {
        self.free.push(ticket);
        std::mem::replace(&mut self.slots[ticket as usize].answers, Answers::One(None))
    }
}
