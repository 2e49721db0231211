//! [`Naps`]: sleeps that end within a tenth of a millisecond. tokio's timers count whole ones and round up, which would be a
//! third of a work of 0 to 5 ms.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    future::Future,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

/// A thread that wakes sleepers.
#[derive(Clone)]
pub(crate) struct Naps(Sender<Nap>);

struct Nap {
    until: Instant,
    sleeper: oneshot::Sender<()>,
}

impl Naps {
    /// Starts the thread; it ends with the last clone.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (sender, naps) = channel();
        std::thread::Builder::new().name("naps".to_owned()).spawn(move || wake_all(&naps))?;
        Ok(Self(sender))
    }

    /// Sleeps so many milliseconds.
    pub(crate) fn sleep(&self, millis: u64) -> impl Future<Output = ()> + Send + use<> {
        let (sleeper, woken) = oneshot::channel();
        let until = Instant::now() + Duration::from_millis(millis);
        let asked = self.0.send(Nap { until, sleeper });
        async move {
            // The thread is there as long as one who can ask is.
            if asked.is_ok() {
                let _ = woken.await;
            }
        }
    }
}

fn wake_all(naps: &Receiver<Nap>) {
    let mut waiting: BinaryHeap<Reverse<(Instant, usize)>> = BinaryHeap::new();
    let mut sleepers: Vec<Option<oneshot::Sender<()>>> = Vec::new();
    let mut free = Vec::new();
    loop {
        let now = Instant::now();
        while let Some(Reverse((_, index))) = waiting.peek().copied().filter(|Reverse((until, _))| *until <= now) {
            waiting.pop();
            free.push(index);
            // Who does not wait any more is not woken.
            let _ = sleepers[index].take().map(|sleeper| sleeper.send(()));
        }
        let heard = match waiting.peek() {
            Some(Reverse((until, _))) => naps.recv_timeout(until.saturating_duration_since(Instant::now())),
            None => naps.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match heard {
            Ok(Nap { until, sleeper }) => {
                let index = free.pop().unwrap_or_else(|| {
                    sleepers.push(None);
                    sleepers.len() - 1
                });
                sleepers[index] = Some(sleeper);
                waiting.push(Reverse((until, index)));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
