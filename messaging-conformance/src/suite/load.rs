//! [`Load`]: messages that keep coming while something else goes on.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::{Letter, Sender, World};
use crate::{failure::Checked, script::How};

/// Messages that keep coming: so many each ten milliseconds, over so many keys.
pub(crate) struct Load<'a> {
    world: &'a World,
    sender: &'a Sender,
    topic: &'a str,
    keys: usize,
    per_round: usize,
    /// The longest work of a handler.
    work: Duration,
    /// Which part of the messages fails once.
    failing: f64,
    /// Outcomes other than confirmed are no failure: somebody is harming the broker.
    rough: bool,
}

const ROUND: Duration = Duration::from_millis(10);

impl<'a> Load<'a> {
    /// Five hundred messages a second, handlers that work up to three milliseconds.
    pub(crate) fn new(world: &'a World, sender: &'a Sender, topic: &'a str, keys: usize) -> Self {
        Self { world, sender, topic, keys, per_round: 5, work: Duration::from_millis(3), failing: 0.0, rough: false }
    }

    /// As much as a member with eight handlers can bear: something runs and something waits at every moment.
    pub(crate) fn heavy(mut self) -> Self {
        self.per_round = 8;
        self.work(Duration::from_millis(15))
    }

    pub(crate) fn work(mut self, most: Duration) -> Self {
        self.work = most;
        self
    }

    pub(crate) fn failing(mut self, part: f64) -> Self {
        self.failing = part;
        self
    }

    pub(crate) fn rough(mut self) -> Self {
        self.rough = true;
        self
    }

    /// Keeps publishing until `what` has ended.
    pub(crate) async fn during<T>(self, what: impl Future<Output = Checked<T>>) -> Checked<T> {
        let done = AtomicBool::new(false);
        let publishing = async {
            let published = self.publish(&done).await;
            // Nobody needs to go on then.
            published.map_err(|failure| failure.within("publishing under load"))
        };
        let doing = async {
            let result = what.await;
            done.store(true, Ordering::Relaxed);
            result
        };
        let mut doing = std::pin::pin!(doing);
        let mut publishing = std::pin::pin!(publishing);
        let mut result = None;
        loop {
            tokio::select! {
                biased;
                published = &mut publishing => {
                    published?;
                    return match result {
                        Some(result) => result,
                        None => doing.await,
                    };
                }
                ended = &mut doing, if result.is_none() => result = Some(ended),
            }
        }
    }

    async fn publish(&self, done: &AtomicBool) -> Checked {
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !done.load(Ordering::Relaxed) {
            rounds.tick().await;
            let letters: Vec<Letter> = (0..self.per_round).map(|_| self.letter()).collect();
            let outcomes = self.sender.try_publish_all(&letters).await;
            if !self.rough {
                for outcome in outcomes {
                    outcome.confirmed()?;
                }
            }
        }
        Ok(())
    }

    fn letter(&self) -> Letter {
        let most = u64::try_from(self.work.as_micros()).unwrap_or(u64::MAX);
        let (key, work, fails) =
            self.world.random(|random| (random.usize(..self.keys), random.u64(..=most), random.f64() < self.failing));
        let letter = self.world.letter(self.topic).key(format!("key-{key}")).work(Duration::from_micros(work));
        if fails { letter.fails_first(How::Transient, 1) } else { letter }
    }
}
