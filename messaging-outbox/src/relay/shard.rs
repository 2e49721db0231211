//! [`Worker`]: relays one shard for as long as this relay has its lease. Reads, sends what may go out, deletes what is with
//! the broker; nothing is sent inside a transaction.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use messaging::{BoxFuture, Error, ErrorKind, Outcome, Settling};
use tokio::time::Instant;

use super::{
    Common, Shard,
    horizon::Horizon,
    rows,
    window::{Row, Window},
};
use crate::settings::OnDead;

/// The shortest and the longest pause between two looks for rows whose transactions committed late.
const RESCAN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// What the relay has unconfirmed at once, over all its shards: less than its publisher takes without making anything
/// wait, since what waits there is sent later than the lease was looked at.
const OUT: (usize, usize) = (30_000, 30 << 20);
/// The longest pause of a shard while the broker or the database cannot be reached.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Rows that were sent, and their outcomes.
struct Sent {
    rows: Vec<Row>,
    outcomes: Vec<Outcome>,
}

pub(crate) struct Worker {
    common: Arc<Common>,
    shard: Arc<Shard>,
    window: Window,
    out: FuturesUnordered<BoxFuture<Sent>>,
    /// With the broker, and to be deleted.
    done: Vec<i64>,
    /// Neither sends nor reads before this: the broker or the database cannot be reached.
    paused_until: Option<Instant>,
    pauses: u32,
    rescan_at: Option<Instant>,
    rescan_every: Duration,
    /// The lanes that are held are known.
    held_known: bool,
    horizon: Horizon,
}

impl Worker {
    pub(crate) fn new(common: Arc<Common>, shard: Arc<Shard>) -> Self {
        let mut window = Window::default();
        window.rescan();
        Self {
            common,
            shard,
            window,
            out: FuturesUnordered::new(),
            done: Vec::new(),
            paused_until: None,
            pauses: 0,
            rescan_at: None,
            rescan_every: RESCAN.0,
            held_known: false,
            horizon: Horizon::default(),
        }
    }

    /// Runs until it is told to stop and nothing is out; then the shard is given back.
    pub(crate) async fn run(mut self) {
        loop {
            if let Err(error) = self.round().await {
                self.pause(&error);
            }
            if self.shard.stop.is_cancelled() && self.out.is_empty() && self.done.is_empty() {
                break;
            }
            self.wait().await;
        }
        let Common { member, database, .. } = &*self.common;
        if let Err(error) = member.release(database, &self.shard.lease).await {
            tracing::warn!(shard = self.shard.lease.shard, %error, "a shard could not be given back: its lease expires");
        }
    }

    /// Takes the answers that are there, then reads and sends until nothing more can be done at once.
    async fn round(&mut self) -> Result<(), Error> {
        loop {
            self.take_answers().await?;
            self.delete().await?;
            if self.shard.stop.is_cancelled() || self.is_paused() {
                return Ok(());
            }
            self.read().await?;
            self.send();
            let more = self.window.is_unread() && self.has_room();
            // A bus in the process has answered by now.
            if !self.take_answers().await? && !more {
                return Ok(());
            }
        }
    }

    /// Takes the answers that are there; answers whether there was one.
    async fn take_answers(&mut self) -> Result<bool, Error> {
        let mut any = false;
        while let Some(Some(sent)) = self.out.next().now_or_never() {
            any = true;
            self.answered(sent).await?;
        }
        Ok(any)
    }

    fn has_room(&self) -> bool {
        let settings = &self.common.settings;
        self.window.len() <= settings.batch * settings.in_flight
    }

    async fn read(&mut self) -> Result<(), Error> {
        let (common, shard) = (self.common.clone(), self.shard.clone());
        let (database, settings, number) = (&common.database, &common.settings, shard.lease.shard);
        let (now, window) = (Instant::now(), &mut self.window);
        window.wake(now);
        if !self.held_known || self.rescan_at.is_some_and(|at| at <= now) {
            window.hold(rows::held(database, number).await?);
            self.held_known = true;
        }
        if self.rescan_at.take_if(|at| *at <= now).is_some() {
            self.rescan_every = (self.rescan_every * 2).min(RESCAN.1);
            window.rescan();
        }
        if shard.due.swap(false, Ordering::AcqRel) {
            let moved = rows::move_due(database, &shard.lease, settings.batch).await;
            match moved {
                Ok(0) => {}
                Ok(moved) => {
                    window.written();
                    shard.due.fetch_or(moved == settings.batch, Ordering::AcqRel);
                }
                Err(error) => {
                    shard.due.store(true, Ordering::Release);
                    return Err(error);
                }
            }
        }
        if !self.window.is_unread() || !self.has_room() {
            return Ok(());
        }
        let mut from = self.window.scan_from();
        let mut page = rows::read(database, number, from, settings.batch).await?;
        if page.is_empty() && from > 0 {
            // A transaction may have committed below: an empty shard is read from its beginning.
            from = 0;
            page = rows::read(database, number, from, settings.batch).await?;
        }
        let full = page.len() == settings.batch;
        let last = page.last().map(|row| row.as_ref().map_or_else(|broken| broken.id, |row| row.id));
        if let Some(missed) = self.missed(from, last.unwrap_or(from)).await? {
            // The page is read again, after what comes before it.
            self.window.rewind(missed);
            return Ok(());
        }
        let (good, broken): (Vec<_>, Vec<_>) = page.into_iter().partition(Result::is_ok);
        for broken in broken.into_iter().filter_map(Result::err) {
            let holds = settings.on_dead == OnDead::HoldKey;
            let reason = broken.error.to_string();
            tracing::error!(id = broken.id, lane = ?broken.lane, error = reason, "an outbox row is no message: dead");
            rows::bury(database, &shard.lease, broken.id, &reason, holds).await?;
            common.meter.dead.increment(1);
            self.held_known = false;
        }
        if self.window.offer(good.into_iter().filter_map(Result::ok).collect(), last, full) > 0 {
            self.rescan_every = RESCAN.0;
        }
        if last.is_none() && self.window.len() == 0 {
            // Nothing is here: whoever polls for this shard looks at all of it.
            self.shard.seen.store(0, Ordering::Release);
            self.rescan_at = None;
            self.window.at_rest();
        } else {
            self.shard.seen.store(self.window.scan_from(), Ordering::Release);
            self.rescan_at.get_or_insert(now + self.rescan_every);
        }
        Ok(())
    }

    /// The first row that appeared at or below `from` since it was passed, once rows up to `last` are read: whatever of its
    /// key is among them follows it.
    async fn missed(&mut self, from: i64, last: i64) -> Result<Option<i64>, Error> {
        let settled = self.horizon.settled();
        if settled >= from {
            return Ok(None);
        }
        let between = rows::between(&self.common.database, self.shard.lease.shard, settled, from).await?;
        let Some((rows, running)) = between else { return Ok(None) };
        self.horizon.looked(from, last, running);
        Ok(self.window.missed(&rows))
    }

    /// Sends batches, as many as may be out while the lease surely lasts.
    fn send(&mut self) {
        let Common { settings, way, until_settled, outbox, .. } = &*self.common;
        let share = if *until_settled { OUT.0 } else { outbox.inner.shards as usize * settings.in_flight };
        let (rows, bytes) = (settings.batch.min(OUT.0 / share).max(1), OUT.1 / share);
        while self.window.is_ready() && self.may_send() {
            let rows = self.window.batch(rows, bytes);
            let messages = rows.iter().map(|row| row.message.clone()).collect();
            let (way, until_settled) = (way.clone(), *until_settled);
            let mut sending: BoxFuture<Sent> = Box::pin(async move {
                let outcomes = if until_settled {
                    way.publish_until_settled(messages).await.unwrap_or_else(|error| vec![Outcome::Rejected(error)])
                } else {
                    way.publish_messages(messages).await
                };
                Sent { rows, outcomes }
            });
            // The first poll hands the batch over, before the lease is looked at again.
            match (&mut sending).now_or_never() {
                Some(sent) => self.out.push(Box::pin(std::future::ready(sent))),
                None => self.out.push(sending),
            }
        }
    }

    fn may_send(&self) -> bool {
        let Common { settings, until_settled, .. } = &*self.common;
        (*until_settled || self.out.len() < settings.in_flight) && self.shard.lease.lasts(settings.publish_deadline)
    }

    /// Sorts the outcomes: done, refused, or to be sent again.
    async fn answered(&mut self, sent: Sent) -> Result<(), Error> {
        let (mut refused, mut unsent, mut dead, mut confirmed) = (Vec::new(), Vec::new(), Vec::new(), 0_u64);
        for (row, outcome) in sent.rows.into_iter().zip(sent.outcomes) {
            match outcome {
                Outcome::Settled(Settling::DeadLettered(reason)) => dead.push((row, reason)),
                Outcome::Settled(Settling::NoGroup) => {
                    let reason = format!("no group is subscribed to topic {:?}", row.message.topic);
                    unsent.push((row, Error::new(ErrorKind::Unavailable, reason)));
                }
                Outcome::Rejected(error) if !error.is_transient() && error.kind() != ErrorKind::Closed => {
                    refused.push((row, error));
                }
                Outcome::Rejected(error) | Outcome::Unknown(error) => unsent.push((row, error)),
                _ => {
                    confirmed += 1;
                    self.window.confirmed(&row);
                    self.done.push(row.id);
                }
            }
        }
        self.common.meter.relayed.increment(confirmed);
        self.common.meter.refused.increment(refused.len() as u64);
        // Where nothing gets through, the shard waits; where something does, the key that failed.
        if confirmed + (refused.len() + dead.len()) as u64 > 0 {
            self.pauses = 0;
            self.paused_until = None;
        } else if let Some((_, error)) = unsent.first().filter(|_| !self.common.until_settled) {
            let error = error.duplicate();
            self.pause(&error);
        }
        for (row, error) in unsent {
            self.park(&row, &error);
        }
        self.refused(refused).await?;
        for (row, reason) in dead {
            self.bury(&row, &reason).await?;
        }
        Ok(())
    }

    /// The broker surely did not take them: each counts an attempt, and the last one is the end.
    async fn refused(&mut self, refused: Vec<(Row, Error)>) -> Result<(), Error> {
        let (mut counted, mut given_up, mut reason) = (Vec::new(), Vec::new(), None);
        for (row, error) in refused {
            if row.attempts.saturating_add(1) >= self.common.settings.max_attempts {
                given_up.push((row, error));
            } else {
                self.park(&row, &error);
                counted.push(row.id);
                reason.get_or_insert(error.to_string());
            }
        }
        if let Some(reason) = reason {
            rows::count(&self.common.database, &self.shard.lease, &counted, &reason).await?;
        }
        for (row, error) in given_up {
            self.bury(&row, &error.to_string()).await?;
        }
        Ok(())
    }

    async fn bury(&mut self, row: &Row, reason: &str) -> Result<(), Error> {
        let holds = self.common.settings.on_dead == OnDead::HoldKey;
        let (event, topic) = (row.message.name().unwrap_or_default(), row.message.topic.as_str());
        match rows::bury(&self.common.database, &self.shard.lease, row.id, reason, holds).await {
            Ok(()) => {
                tracing::error!(id = row.id, event, topic, reason, holds, "an event of the outbox is dead");
                self.common.meter.dead.increment(1);
                self.window.buried(row, holds);
                self.common.outbox.inner.signals.done.notify_waiters();
                Ok(())
            }
            Err(error) => {
                self.park(row, &error);
                Err(error)
            }
        }
    }

    /// The key waits, longer with each failure in a row.
    fn park(&mut self, row: &Row, error: &Error) {
        let settings = &self.common.settings;
        let failures = self.window.failed(row).max(row.attempts.saturating_add(1));
        let pause = backoff(settings.backoff, failures, settings.max_backoff);
        // Told less and less often: it may go on for long.
        if failures.is_power_of_two() {
            tracing::warn!(
                id = row.id, topic = %row.message.topic, %error, failures, retry_in_ms = pause.as_millis() as u64,
                "an event of the outbox was not published"
            );
        }
        self.window.park(row, Instant::now() + pause);
    }

    /// The shard waits.
    fn pause(&mut self, error: &Error) {
        self.pauses = self.pauses.saturating_add(1);
        let pause = backoff(self.common.settings.backoff, self.pauses, MAX_PAUSE);
        tracing::warn!(
            shard = self.shard.lease.shard, %error, retry_in_ms = pause.as_millis() as u64, "the relay of a shard waits"
        );
        self.paused_until = Some(Instant::now() + pause);
    }

    fn is_paused(&mut self) -> bool {
        self.paused_until.take_if(|until| *until <= Instant::now());
        self.paused_until.is_some()
    }

    async fn delete(&mut self) -> Result<(), Error> {
        if self.done.is_empty() {
            return Ok(());
        }
        rows::delete(&self.common.database, &self.shard.lease, &self.done).await?;
        self.window.deleted(&self.done);
        self.done.clear();
        self.common.outbox.inner.signals.done.notify_waiters();
        Ok(())
    }

    /// Waits for an answer, for new rows, for the time of something, or for the end.
    async fn wait(&mut self) {
        let wakes = [self.paused_until, self.window.next_wake().filter(|_| self.paused_until.is_none())];
        let mut next = wakes.into_iter().flatten().min();
        if self.paused_until.is_none() {
            next = next.into_iter().chain(self.rescan_at).min();
        }
        if self.window.is_ready() && !self.shard.lease.lasts(self.common.settings.publish_deadline) {
            // The lease is about to be renewed, or lost.
            let soon = Instant::now() + self.common.settings.renewal() / 4;
            next = Some(next.map_or(soon, |next| next.min(soon)));
        }
        let number = usize::try_from(self.shard.lease.shard).unwrap_or_default();
        let written = &self.common.outbox.inner.signals.written[number];
        let timer = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let stopping = self.shard.stop.is_cancelled();
        let sent = tokio::select! {
            sent = self.out.next(), if !self.out.is_empty() => sent,
            () = written.notified(), if !stopping => {
                self.window.written();
                None
            }
            () = self.shard.stop.cancelled(), if !stopping => None,
            () = timer => None,
        };
        if let Some(sent) = sent
            && let Err(error) = self.answered(sent).await
        {
            self.pause(&error);
        }
    }
}

/// The pause after so many failures, from 1: doubled each time, and varied by a fifth.
fn backoff(first: Duration, failures: u32, longest: Duration) -> Duration {
    let full = first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(longest);
    full.mul_f64(0.8 + 0.4 * fastrand::f64())
}
