//! [`Confirms`]: what was given to the client and has no answer yet, in the order of sending.
//!
//! The broker mostly answers in that order, so that only the first one is waited for: its answer wakes the publisher once
//! for all that came with it. Where another answer comes first, as it does while one queue has no quorum, everybody is
//! looked at [now and then](Confirms::look_around), the less often the more often that was in vain.
//!
//! Until the client has written a message it holds a future of one and a half kilobytes; for its confirm it needs a few
//! dozen bytes. Thousands wait for their confirms, so the large ones are let go as soon as they are written.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::FutureExt as _;
use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm, options::BasicPublishOptions, types::ShortString,
};
use tokio_util::sync::ReusableBoxFuture;

use super::{driver::Open, outstanding::Place};

/// How long an answer may lie behind one that does not come, if others did lately.
const OVERDUE: Duration = Duration::from_millis(10);
/// How often that is doubled at most, while none does: a broker may take longer over every answer.
const DOUBLED: u32 = 4;
/// So many of those sent last are taken to be on their way to the socket.
const UNWRITTEN: usize = 128;
/// Futures that are kept to be used again.
const SPARE: usize = 1_024;

type Answer = lapin::Result<Confirmation>;
type Writing<C> = ReusableBoxFuture<'static, lapin::Result<C>>;

/// What the broker has answered, each part in the order of sending.
#[derive(Default)]
pub(super) struct Answers {
    /// Plain confirms, which nearly all are.
    pub(super) confirmed: Vec<Place>,
    /// Refusals, failures, and confirms that bring a return.
    pub(super) others: Vec<(Place, Answer)>,
}

/// The unanswered, and the answers that are to be read.
pub(super) struct Confirms<C = PublisherConfirm> {
    waiting: VecDeque<(Place, State<C>)>,
    /// How many of them, counted from the first, are known to be written.
    written: usize,
    answers: Answers,
    /// Each is written over one that has ended.
    spare: Vec<Writing<C>>,
    /// When somebody was answered last, or everybody was looked at.
    moved: Option<Instant>,
    /// How often everybody was looked at since there was an answer behind a missing one.
    in_vain: u32,
}

enum State<C> {
    /// Its frames may not be written yet.
    Writing(Writing<C>),
    /// Only its confirm is missing.
    Written(C),
    /// Was read already.
    Read,
}

impl<C> Default for Confirms<C> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            written: 0,
            answers: Answers::default(),
            spare: Vec::new(),
            moved: None,
            in_vain: 0,
        }
    }
}

impl Confirms {
    /// Gives a message to the client, which queues its frames at once: the caller's order is the order on the wire.
    ///
    /// # Errors
    /// If the channel takes no message.
    pub(super) fn publish(
        &mut self,
        place: Place,
        open: &Arc<Open>,
        (exchange, key): (ShortString, ShortString),
        payload: Bytes,
        properties: BasicProperties,
    ) -> lapin::Result<()> {
        let open = open.clone();
        let writing = async move {
            let options = BasicPublishOptions { mandatory: true, immediate: false };
            open.channel.basic_publish(exchange, key, options, &payload, properties).await
        };
        let mut writing = match self.spare.pop() {
            Some(mut spare) => {
                spare.set(writing);
                spare
            }
            None => ReusableBoxFuture::new(writing),
        };
        let state = match writing.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => State::Writing(writing),
            Poll::Ready(written) => State::Written(written?),
        };
        self.add(place, state);
        Ok(())
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
}

impl<C: Future<Output = Answer> + Unpin> Confirms<C> {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn add(&mut self, place: Place, state: State<C>) {
        if self.waiting.is_empty() {
            self.moved = Some(Instant::now());
        }
        self.waiting.push_back((place, state));
        if self.waiting.len() - self.written > UNWRITTEN {
            self.let_go_of_one();
        }
    }

    /// Lets go of what the client needed to write the first that is not known to be written, if it is.
    fn let_go_of_one(&mut self) {
        let Some((place, state)) = self.waiting.get_mut(self.written) else { return };
        match state.written(&mut Context::from_waker(Waker::noop()), &mut self.spare) {
            Poll::Pending => return,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => self.answers.add(*place, Some(Err(error))),
        }
        self.written += 1;
    }

    /// Waits until there is an answer.
    pub(super) async fn ready(&mut self) {
        poll_fn(|cx| {
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
            match state.poll(cx, &mut self.spare) {
                Poll::Pending => break,
                Poll::Ready(answer) => self.answers.add(*place, answer),
            }
            taken += 1;
            self.waiting.pop_front();
            self.written = self.written.saturating_sub(1);
        }
        taken
    }

    fn take_any(&mut self) -> usize {
        let before = self.answers.len();
        let cx = &mut Context::from_waker(Waker::noop());
        for (place, state) in &mut self.waiting {
            if let Poll::Ready(answer) = state.poll(cx, &mut self.spare) {
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

impl<C: Future<Output = Answer> + Unpin> State<C> {
    /// Whether its frames are written; if that failed, there is no more to be read.
    fn written(&mut self, cx: &mut Context<'_>, spare: &mut Vec<Writing<C>>) -> Poll<lapin::Result<()>> {
        let Self::Writing(writing) = self else { return Poll::Ready(Ok(())) };
        let (next, written) = match ready!(writing.poll(cx)) {
            Ok(confirm) => (Self::Written(confirm), Ok(())),
            Err(error) => (Self::Read, Err(error)),
        };
        if let Self::Writing(ended) = std::mem::replace(self, next)
            && spare.len() < SPARE
        {
            spare.push(ended);
        }
        Poll::Ready(written)
    }

    /// The answer, if it is there; nothing if it was read before.
    fn poll(&mut self, cx: &mut Context<'_>, spare: &mut Vec<Writing<C>>) -> Poll<Option<Answer>> {
        if let Err(error) = ready!(self.written(cx, spare)) {
            return Poll::Ready(Some(Err(error)));
        }
        match self {
            Self::Written(confirm) => confirm.poll_unpin(cx).map(Some),
            Self::Writing(_) | Self::Read => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures::{channel::oneshot, future::BoxFuture};

    use super::*;

    type Confirm = BoxFuture<'static, Answer>;

    /// Messages that the test answers, and all of which are written.
    fn given(count: usize) -> (Confirms<Confirm>, Vec<Option<oneshot::Sender<Confirmation>>>) {
        let mut confirms = Confirms::default();
        let answer = |index| {
            let (sender, receiver) = oneshot::channel();
            let confirm = async move { Ok(receiver.await.unwrap_or(Confirmation::NotRequested)) };
            let writing = std::future::ready(Ok(confirm.boxed()));
            confirms.add(Place { batch: 0, index }, State::Writing(ReusableBoxFuture::new(writing)));
            Some(sender)
        };
        let senders = (0..count).map(answer).collect();
        (confirms, senders)
    }

    fn taken(confirms: &mut Confirms<Confirm>) -> Vec<usize> {
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
        assert_eq!((confirms.len(), confirms.spare.len()), (0, 5), "five had a future to be kept");
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
    fn large_futures_are_let_go_as_soon_as_they_are_written() {
        let (confirms, _senders) = given(3 * UNWRITTEN);
        let of_writing = |(_, state): &&(Place, State<Confirm>)| matches!(state, State::Writing(_));
        let writing = confirms.waiting.iter().filter(of_writing).count();
        assert_eq!((writing, confirms.written, confirms.spare.len()), (UNWRITTEN, 2 * UNWRITTEN, 2 * UNWRITTEN));
    }

    #[test]
    fn what_could_not_be_written_is_told_once() {
        let mut confirms = Confirms::<Confirm>::default();
        let (failing, failed) = (lapin::ErrorKind::FutureCompleted, |answer: &Answer| answer.is_err());
        let writing = ReusableBoxFuture::new(std::future::ready(Err(failing.into())));
        confirms.add(Place { batch: 0, index: 0 }, State::Writing(writing));
        confirms.let_go_of_one();
        confirms.take_first(9, &mut Context::from_waker(Waker::noop()));
        let told: Vec<_> =
            confirms.answers.others.iter().map(|(place, answer)| (place.index, failed(answer))).collect();
        assert_eq!((told, confirms.len(), confirms.written), (vec![(0, true)], 0, 0));
    }
}
