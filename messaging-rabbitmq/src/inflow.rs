//! [`Inflow`]: what comes on the channels of a consumer. A message wakes the consumer; while many come, it looks at
//! [a pace of its own](Pace).

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use futures::{Stream, StreamExt as _, task::AtomicWaker};

use crate::{
    feed::{Deliveries, Taken},
    pace::Pace,
};

/// A broker that may send so many ahead is not held up by a pause: it would have to send more than 50,000 a second of one
/// partition.
const WIDE: u16 = 128;

/// The streams of every partition that is consumed, by slot.
pub(crate) struct Inflow<S = Deliveries> {
    streams: Vec<Option<S>>,
    wakers: Vec<Waker>,
    woken: Arc<Woken>,
    /// Slots that may have something, in turn.
    due: VecDeque<usize>,
    pace: Pace,
    may_pause: bool,
}

impl<S: Stream<Item = Taken> + Unpin> Inflow<S> {
    /// For slots with these prefetches.
    pub(crate) fn new(prefetches: impl IntoIterator<Item = u16>) -> Self {
        let prefetches: Vec<u16> = prefetches.into_iter().collect();
        let slots = prefetches.len();
        let woken = Arc::new(Woken::new(slots));
        Self {
            streams: (0..slots).map(|_| None).collect(),
            wakers: (0..slots).map(|slot| Waker::from(Arc::new(SlotWaker { slot, woken: woken.clone() }))).collect(),
            woken,
            due: VecDeque::new(),
            pace: Pace::default(),
            may_pause: prefetches.iter().all(|prefetch| *prefetch >= WIDE),
        }
    }

    /// A slot's messages come from this stream from now on.
    pub(crate) fn open(&mut self, slot: usize, stream: S) {
        self.streams[slot] = Some(stream);
        self.due.push_back(slot);
    }

    /// Nothing more comes of what was opened.
    pub(crate) fn clear(&mut self) {
        self.streams.fill_with(|| None);
    }

    /// What has come on some channel.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Taken> {
        loop {
            ready!(self.pace.poll(cx));
            if let Some(taken) = self.look() {
                return Poll::Ready(taken);
            }
            let pause = self.may_pause && self.pace.pause();
            self.woken.pausing.store(pause, Ordering::SeqCst);
            if pause {
                continue;
            }
            self.woken.consumer.register(cx.waker());
            // What came after the look and before this did not wake anybody.
            self.woken.drain_into(&mut self.due);
            if self.due.is_empty() {
                return Poll::Pending;
            }
        }
    }

    /// Looks at what was woken.
    fn look(&mut self) -> Option<Taken> {
        if self.due.is_empty() {
            self.woken.drain_into(&mut self.due);
        }
        while let Some(slot) = self.due.pop_front() {
            let Some(stream) = &mut self.streams[slot] else { continue };
            let Poll::Ready(Some(taken)) = stream.poll_next_unpin(&mut Context::from_waker(&self.wakers[slot])) else {
                continue;
            };
            self.pace.note(taken.messages.len());
            if taken.ended.is_some() {
                self.streams[slot] = None;
            } else if taken.more {
                self.due.push_back(slot);
            }
            return Some(taken);
        }
        None
    }
}

/// Which slots have something.
struct Woken {
    slots: Vec<AtomicU64>,
    /// Nobody is to be woken for it.
    pausing: AtomicBool,
    consumer: AtomicWaker,
}

impl Woken {
    fn new(slots: usize) -> Self {
        let words = slots.div_ceil(64);
        Self {
            slots: (0..words).map(|_| AtomicU64::new(0)).collect(),
            pausing: AtomicBool::new(false),
            consumer: AtomicWaker::new(),
        }
    }

    fn drain_into(&self, due: &mut VecDeque<usize>) {
        for (word, bits) in self.slots.iter().enumerate() {
            if bits.load(Ordering::SeqCst) == 0 {
                continue;
            }
            let mut bits = bits.swap(0, Ordering::SeqCst);
            while bits != 0 {
                due.push_back(word * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }
}

/// Woken by the client when a slot has something.
struct SlotWaker {
    slot: usize,
    woken: Arc<Woken>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// Pairs with [`Inflow::poll`], which ends a pause before its last look: either that look finds the slot, or this
    /// finds the pause ended.
    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.slots[self.slot / 64].fetch_or(1 << (self.slot % 64), Ordering::SeqCst);
        if !self.woken.pausing.load(Ordering::SeqCst) {
            self.woken.consumer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, time::Duration};

    use futures::{channel::mpsc, future::poll_fn};
    use messaging::Message;
    use tokio::time::Instant;

    use super::*;
    use crate::pace::{MANY, PAUSE};

    type Inlet = mpsc::UnboundedSender<Taken>;

    /// So many streams with this prefetch, and where what comes on each is put in.
    fn inflow(slots: usize, prefetch: u16) -> (Inflow<mpsc::UnboundedReceiver<Taken>>, Vec<Inlet>) {
        let mut inflow = Inflow::new(vec![prefetch; slots]);
        let inlets = (0..slots).map(|slot| {
            let (inlet, stream) = mpsc::unbounded();
            inflow.open(slot, stream);
            inlet
        });
        let inlets = inlets.collect();
        (inflow, inlets)
    }

    fn put(inlets: &[Inlet], slot: usize, messages: usize) {
        let messages = (0..messages as u64).map(|tag| (tag, Arc::new(Message::new("t", "")))).collect();
        let taken = Taken { slot, generation: 0, messages, more: true, ended: None };
        inlets[slot].unbounded_send(taken).unwrap();
    }

    /// How often somebody was woken.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Takes in what is there; answers the slots, and what woke the consumer is counted from then on.
    fn take_in<S: Stream<Item = Taken> + Unpin>(inflow: &mut Inflow<S>, wakes: &Arc<Wakes>) -> Vec<usize> {
        let waker = Waker::from(wakes.clone());
        let mut slots = Vec::new();
        while let Poll::Ready(taken) = inflow.poll(&mut Context::from_waker(&waker)) {
            slots.push(taken.slot);
        }
        wakes.0.store(0, Ordering::SeqCst);
        slots
    }

    fn woken(wakes: &Wakes) -> usize {
        wakes.0.load(Ordering::SeqCst)
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_messages_wake_at_once() {
        let (mut inflow, inlets) = inflow(70, WIDE);
        let wakes = Arc::default();
        assert!(take_in(&mut inflow, &wakes).is_empty());
        for slot in [69, 3, 64] {
            put(&inlets, slot, 1);
            assert_eq!((woken(&wakes), take_in(&mut inflow, &wakes)), (1, vec![slot]));
            tokio::time::advance(PAUSE).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_are_looked_for_when_the_pause_has_passed() {
        let (mut inflow, inlets) = inflow(2, WIDE);
        let wakes = Arc::default();
        put(&inlets, 0, MANY);
        assert_eq!(take_in(&mut inflow, &wakes), [0]);
        for _ in 0..3 {
            let began = Instant::now();
            put(&inlets, 1, MANY / 2);
            put(&inlets, 0, MANY / 2);
            assert_eq!((woken(&wakes), take_in(&mut inflow, &wakes)), (0, vec![]));
            let taken = poll_fn(|cx| inflow.poll(cx)).await;
            assert_eq!((taken.slot, began.elapsed().as_millis()), (0, PAUSE.as_millis()));
            assert_eq!(take_in(&mut inflow, &wakes), [1]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_in_which_little_came_is_the_last() {
        let (mut inflow, inlets) = inflow(2, WIDE);
        let wakes = Arc::default();
        put(&inlets, 0, MANY);
        take_in(&mut inflow, &wakes);
        put(&inlets, 0, MANY - 1);
        tokio::time::sleep(PAUSE).await;
        assert_eq!((woken(&wakes), take_in(&mut inflow, &wakes)), (1, vec![0]), "the timer has woken");
        put(&inlets, 1, 1);
        assert_eq!((woken(&wakes), take_in(&mut inflow, &wakes)), (1, vec![1]), "the message has");
    }

    #[tokio::test(start_paused = true)]
    async fn a_narrow_window_is_never_kept_waiting() {
        let (mut inflow, inlets) = inflow(2, WIDE - 1);
        let wakes = Arc::default();
        put(&inlets, 0, 10 * MANY);
        assert_eq!(take_in(&mut inflow, &wakes), [0]);
        put(&inlets, 0, 1);
        assert_eq!((woken(&wakes), take_in(&mut inflow, &wakes)), (1, vec![0]));
    }

    #[tokio::test(start_paused = true)]
    async fn every_slot_has_its_turn() {
        let (mut inflow, inlets) = inflow(3, WIDE);
        for _ in 0..2 {
            (0..3).for_each(|slot| put(&inlets, slot, 1));
        }
        assert_eq!(take_in(&mut inflow, &Arc::default()), [0, 1, 2, 0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_or_was_cleared_is_not_looked_at_again() {
        let (mut inflow, inlets) = inflow(2, WIDE);
        let wakes = Arc::default();
        let ended = Taken { slot: 0, generation: 0, messages: Vec::new(), more: false, ended: Some(None) };
        inlets[0].unbounded_send(ended).unwrap();
        assert_eq!(take_in(&mut inflow, &wakes), [0]);
        assert!(inlets[0].is_closed());
        inflow.clear();
        assert!(inlets[1].is_closed() && take_in(&mut inflow, &wakes).is_empty());
    }

    /// As the client does.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_stays_behind_that_another_thread_puts_in() {
        // Sometimes many, so that there is a pause, and sometimes few, so that it ends.
        let rounds = (0..1_000).map(|round| round * 7 % (2 * MANY));
        let all = rounds.clone().sum();
        let (mut inflow, inlets) = inflow(2, WIDE);
        let seen = Arc::new(AtomicUsize::new(0));
        let putting = std::thread::spawn({
            let seen = seen.clone();
            move || {
                let mut before = 0;
                for many in rounds {
                    (0..many).for_each(|number| put(&inlets, number % 2, 1));
                    before += many;
                    while seen.load(Ordering::SeqCst) < before {
                        std::thread::yield_now();
                    }
                }
            }
        });
        while seen.load(Ordering::SeqCst) < all {
            let next = tokio::time::timeout(Duration::from_secs(10), poll_fn(|cx| inflow.poll(cx)));
            let Ok(taken) = next.await else { panic!("something stays behind after {seen:?} of {all}") };
            seen.fetch_add(taken.messages.len(), Ordering::SeqCst);
        }
        putting.join().unwrap();
    }
}
