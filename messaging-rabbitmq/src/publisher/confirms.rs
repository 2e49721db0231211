//! [`Confirms`]: what was given to the client and has no answer yet, in the order of sending.
//!
//! The broker mostly answers in that order, so that only the first one is waited for: its answer wakes the publisher once
//! for all that came with it. Where another answer comes first, as it does while one queue has no quorum, everybody is
//! looked at [now and then](Confirms::look_around), the less often the more often that was in vain.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use lapin::{BasicProperties, Channel, Confirmation, options::BasicPublishOptions, types::ShortString};
use messaging::Message;
use tokio_util::sync::ReusableBoxFuture;

use super::{driver::Open, outstanding::Place};
use crate::pace::Pace;

/// How long an answer may lie behind one that does not come, if others did lately.
const OVERDUE: Duration = Duration::from_millis(10);
/// How often that is doubled at most, while none does: a broker may take longer over every answer.
const DOUBLED: u32 = 4;
/// With so many unanswered, the broker has enough to do while we do not look.
const DEEP: usize = 512;
/// Futures that are kept to be used again.
const SPARE: usize = 1_024;

type Answer = lapin::Result<Confirmation>;
type Publishing = ReusableBoxFuture<'static, Answer>;

/// What the broker has answered, each part in the order of sending.
#[derive(Default)]
pub(super) struct Answers {
    /// Plain confirms, which nearly all are.
    pub(super) confirmed: Vec<Place>,
    /// Refusals, failures, and confirms that bring a return.
    pub(super) others: Vec<(Place, Answer)>,
}

/// The unanswered, and the answers that are to be read.
#[derive(Default)]
pub(super) struct Confirms {
    waiting: VecDeque<(Place, State)>,
    answers: Answers,
    /// The client's futures are large: each is written over one that has ended.
    spare: Vec<Publishing>,
    pace: Pace,
    /// When somebody was answered last, or everybody was looked at.
    moved: Option<Instant>,
    /// How often everybody was looked at since there was an answer behind a missing one.
    in_vain: u32,
}

enum State {
    Waiting(Publishing),
    /// Was there before the publisher looked.
    Answered(Box<Confirmation>),
    /// Was read already.
    Read,
}

impl Confirms {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Gives a message to the client, which queues its frames at once: the caller's order is the order on the wire.
    ///
    /// # Errors
    /// If the channel takes no message.
    pub(super) fn publish(
        &mut self,
        place: Place,
        open: &Arc<Open>,
        (exchange, key): (ShortString, ShortString),
        message: Arc<Message>,
        properties: BasicProperties,
    ) -> lapin::Result<()> {
        let open = open.clone();
        let publishing = async move {
            let options = BasicPublishOptions { mandatory: true, immediate: false };
            open.channel.basic_publish(exchange, key, options, &message.payload, properties).await?.await
        };
        let mut publishing = match self.spare.pop() {
            Some(mut spare) => {
                spare.set(publishing);
                spare
            }
            None => ReusableBoxFuture::new(publishing),
        };
        let state = match publishing.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => State::Waiting(publishing),
            // As any other answer, it may be a refusal or bring a return.
            Poll::Ready(answer) => State::Answered(Box::new(answer?)),
        };
        if self.waiting.is_empty() {
            self.moved = Some(Instant::now());
        }
        self.waiting.push_back((place, state));
        Ok(())
    }

    /// Waits until there is an answer.
    pub(super) async fn ready(&mut self) {
        poll_fn(|cx| {
            ready!(self.pace.poll(cx));
            self.take_first(1, cx);
            if self.answers.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Reads the next answer, to be given on [later](Self::answers). Answers whether it was there.
    pub(super) fn read_one(&mut self) -> bool {
        self.take_first(1, &mut Context::from_waker(Waker::noop())) > 0
    }

    /// How many answers were read and not given on.
    pub(super) fn read_ahead(&self) -> usize {
        self.answers.len()
    }

    /// Whether one of them is no plain confirm.
    pub(super) fn has_failure(&self) -> bool {
        !self.answers.others.is_empty()
    }

    /// The answers that are there; among them every return that belongs to one of them.
    ///
    /// A return comes with some confirm, not always its own: the client gives the first return to the first message of a
    /// confirm that it happens to complete. So nobody is told anything while a confirm is half read.
    pub(super) fn answers(&mut self, channel: &Channel, out: &mut Answers) {
        let cx = &mut Context::from_waker(Waker::noop());
        self.read_to_the_end(|| end_of_confirm(channel), |confirms| confirms.take_first(usize::MAX, cx));
        self.moved = Some(Instant::now());
        std::mem::swap(&mut self.answers, out);
        self.pace.note(out.len());
        if self.waiting.len() >= DEEP {
            self.pace.pause();
        }
    }

    /// Reads all that a confirm has brought of which anything was read: until nothing comes between the end of a confirm
    /// and the next look.
    fn read_to_the_end(&mut self, end_of_confirm: impl Fn(), mut take: impl FnMut(&mut Self) -> usize) {
        loop {
            end_of_confirm();
            if take(self) == 0 {
                return;
            }
        }
    }

    /// When to look at everybody.
    pub(super) fn due(&self) -> Option<Instant> {
        let overdue = OVERDUE * 2u32.pow(self.in_vain.min(DOUBLED));
        self.moved.filter(|_| !self.waiting.is_empty()).map(|moved| moved + overdue)
    }

    /// Looks at everybody, if the first has not been answered for too long, or at once. Answers whether there is an answer
    /// to be read.
    pub(super) fn look_around(&mut self, channel: &Channel, at_once: bool) -> bool {
        if !self.look(Instant::now(), at_once) {
            return false;
        }
        self.read_to_the_end(|| end_of_confirm(channel), Self::take_any);
        true
    }

    fn look(&mut self, now: Instant, at_once: bool) -> bool {
        if self.due().is_none_or(|due| due > now && !at_once) {
            return false;
        }
        self.moved = Some(now);
        self.take_any();
        self.in_vain = if self.answers.is_empty() { self.in_vain + 1 } else { 0 };
        !self.answers.is_empty()
    }

    fn take_first(&mut self, most: usize, cx: &mut Context<'_>) -> usize {
        let mut taken = 0;
        while taken < most
            && let Some((place, state)) = self.waiting.front_mut()
        {
            let place = *place;
            match state.poll(cx) {
                Poll::Pending => break,
                Poll::Ready(answer) => self.answers.add(place, answer),
            }
            taken += 1;
            if let Some((_, State::Waiting(publishing))) = self.waiting.pop_front()
                && self.spare.len() < SPARE
            {
                self.spare.push(publishing);
            }
        }
        taken
    }

    fn take_any(&mut self) -> usize {
        let before = self.answers.len();
        let cx = &mut Context::from_waker(Waker::noop());
        for (place, state) in &mut self.waiting {
            if let Poll::Ready(answer) = state.poll(cx) {
                *state = State::Read;
                self.answers.add(*place, answer);
            }
        }
        self.answers.len() - before
    }
}

/// Waits until the client has read a confirm to its end, if it is reading one: it does so under the lock that this question
/// takes as well.
fn end_of_confirm(channel: &Channel) {
    let _ = channel.wait_for_confirms().now_or_never();
}

impl Answers {
    fn len(&self) -> usize {
        self.confirmed.len() + self.others.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn add(&mut self, place: Place, answer: Option<Answer>) {
        match answer {
            Some(Ok(Confirmation::Ack(None))) => self.confirmed.push(place),
            Some(other) => self.others.push((place, other)),
            None => {}
        }
    }
}

impl State {
    /// The answer, if it is there; nothing if it was read before.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        match self {
            Self::Waiting(publishing) => publishing.poll(cx).map(Some),
            Self::Read => Poll::Ready(None),
            Self::Answered(_) => match std::mem::replace(self, Self::Read) {
                Self::Answered(answer) => Poll::Ready(Some(Ok(*answer))),
                _ => Poll::Ready(None),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures::channel::oneshot;

    use super::*;

    /// Messages that the test answers.
    fn given(count: usize) -> (Confirms, Vec<Option<oneshot::Sender<Confirmation>>>) {
        let mut confirms = Confirms::default();
        let answer = |index| {
            let (sender, receiver) = oneshot::channel();
            let publishing = async move { Ok(receiver.await.unwrap_or(Confirmation::NotRequested)) };
            let state = State::Waiting(ReusableBoxFuture::new(publishing));
            confirms.waiting.push_back((Place { batch: 0, index }, state));
            Some(sender)
        };
        let senders = (0..count).map(answer).collect();
        (confirms, senders)
    }

    fn taken(confirms: &mut Confirms) -> Vec<usize> {
        confirms.answers.confirmed.drain(..).map(|place| place.index).collect()
    }

    #[test]
    fn answers_are_taken_up_to_the_first_that_is_missing_or_from_everywhere() {
        let (mut confirms, mut senders) = given(5);
        let mut answer = |index: usize| senders[index].take().unwrap().send(Confirmation::Ack(None)).unwrap();
        let cx = &mut Context::from_waker(Waker::noop());
        for index in [0, 1, 3] {
            answer(index);
        }
        confirms.take_first(9, cx);
        assert_eq!(taken(&mut confirms), [0, 1]);
        confirms.take_any();
        assert_eq!(taken(&mut confirms), [3]);
        answer(2);
        answer(4);
        confirms.take_first(9, cx);
        assert_eq!(taken(&mut confirms), [2, 4], "what was read before is not read again");
        assert_eq!((confirms.len(), confirms.spare.len()), (0, 4), "four of five had a future to be kept");
    }

    #[test]
    fn a_confirm_that_comes_meanwhile_is_read_to_its_end() {
        let (mut confirms, mut senders) = given(4);
        senders[3] = None;
        let senders = RefCell::new(senders.into_iter().flatten());
        // The client completes one more message each time, as it would of one confirm for all of them.
        let end_of_confirm = || {
            if let Some(sender) = senders.borrow_mut().next() {
                sender.send(Confirmation::Ack(None)).unwrap();
            }
        };
        let cx = &mut Context::from_waker(Waker::noop());
        confirms.read_to_the_end(end_of_confirm, |confirms| confirms.take_first(9, cx));
        assert_eq!(taken(&mut confirms), [0, 1, 2]);
    }

    #[test]
    fn everybody_is_looked_at_less_often_while_that_is_in_vain() {
        let (mut confirms, mut senders) = given(3);
        let mut now = Instant::now();
        confirms.moved = Some(now);
        for doubled in [0, 1, 2, 3, 4, 4] {
            let due = now + OVERDUE * 2u32.pow(doubled);
            assert_eq!(confirms.due(), Some(due));
            assert!(!confirms.look(due - Duration::from_nanos(1), false) && !confirms.look(due, false));
            now = due;
        }
        senders[1].take().unwrap().send(Confirmation::Ack(None)).unwrap();
        now = confirms.due().unwrap();
        assert!(confirms.look(now, false));
        assert_eq!((taken(&mut confirms), confirms.due()), (vec![1], Some(now + OVERDUE)));
        senders[2].take().unwrap().send(Confirmation::Ack(None)).unwrap();
        assert!(!confirms.look(now, false) && confirms.look(now, true), "what is given up now is looked at before");
        assert_eq!(taken(&mut confirms), [2]);
    }

    #[tokio::test]
    async fn the_first_one_wakes_the_publisher() {
        let (mut confirms, mut senders) = given(2);
        let first = senders[0].take().unwrap();
        let answering = tokio::spawn(async { first.send(Confirmation::Nack(None)) });
        confirms.ready().await;
        answering.await.unwrap().unwrap();
        assert_eq!(confirms.answers.others, [(Place { batch: 0, index: 0 }, Ok(Confirmation::Nack(None)))]);
    }

    #[test]
    fn an_answer_that_was_there_at_once_is_read_once() {
        let mut state = State::Answered(Box::new(Confirmation::Nack(None)));
        let cx = &mut Context::from_waker(Waker::noop());
        assert_eq!(state.poll(cx), Poll::Ready(Some(Ok(Confirmation::Nack(None)))));
        assert_eq!(state.poll(cx), Poll::Ready(None));
    }
}
