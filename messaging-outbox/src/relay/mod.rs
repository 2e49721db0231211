//! [`Relay`]: publishes what was committed, in the order of each key. Has its share of the shards, a worker for each, and
//! asks the database for what other processes wrote.

mod horizon;
mod housekeeping;
mod leases;
mod rows;
mod shard;
mod window;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use hashbrown::HashMap;
use messaging::{Error, ErrorKind, EventId, Messaging, MessagingOptions, Publisher, PublisherOptions};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use self::{
    leases::{HOUSEKEEPING, Lease, Member},
    shard::Worker,
};
use crate::{
    database::{Database, Sql},
    outbox::Outbox,
    settings::RelaySettings,
    telemetry::RelayMeter,
};

/// How long closing the publisher may take, once nothing is unconfirmed any more.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// What all shards of a relay share.
pub(crate) struct Common {
    pub(crate) outbox: Outbox,
    /// Connections of the relay's own: busy handlers keep no lease from being renewed.
    pub(crate) database: Database,
    pub(crate) settings: RelaySettings,
    pub(crate) member: Member,
    /// A publisher of the relay's own: its deadline is shorter than a lease.
    pub(crate) way: Messaging,
    /// The bus is not durable: a row is done when every group has settled it.
    pub(crate) until_settled: bool,
    pub(crate) meter: RelayMeter,
}

/// What worker and relay know of each other.
pub(super) struct Shard {
    pub(super) lease: Lease,
    /// Rows above this id are news to the worker.
    pub(super) seen: AtomicI64,
    /// There are delayed rows that are due.
    pub(super) due: AtomicBool,
    /// The worker is to send no more, and to end when what is out is answered.
    pub(super) stop: CancellationToken,
}

impl Shard {
    pub(super) fn new(lease: Lease) -> Self {
        let stop = CancellationToken::new();
        Self { lease, seen: AtomicI64::new(0), due: AtomicBool::new(true), stop }
    }
}

/// A running relay. Dropped, it stops at once; its shards are free when their leases expire.
#[must_use = "dropping it stops the relay"]
pub struct Relay {
    stop: CancellationToken,
    task: JoinHandle<()>,
    publisher: Arc<dyn Publisher>,
}

impl Relay {
    /// Sends nothing more, waits up to `drain` for what is unconfirmed, and gives the shards back.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if something was unconfirmed by then: it is published once more by the next relay.
    pub async fn shutdown(mut self, drain: Duration) -> Result<(), Error> {
        self.stop.cancel();
        let ended = tokio::time::timeout(drain, &mut self.task).await;
        let closed = self.publisher.close(CLOSE_DEADLINE).await;
        match ended {
            Ok(_) => closed,
            Err(_) => Err(Error::new(ErrorKind::Timeout, "the relay did not end in time: leases expire")),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

pub(crate) async fn start(outbox: Outbox, settings: RelaySettings) -> Result<Relay, Error> {
    settings.validate()?;
    let mut publisher = PublisherOptions::default();
    publisher.deadline = settings.publish_deadline;
    publisher.declare = settings.declare.clone();
    let messaging = outbox.messaging()?;
    let trace_propagator = messaging.trace_propagator().cloned();
    let options = MessagingOptions { publisher, trace_propagator, ..MessagingOptions::default() };
    let broker = messaging.broker().clone();
    let publisher = broker.publisher(options.publisher.clone()).await?;
    let way = Messaging::with_publisher(broker, publisher.clone(), options);
    let capabilities = way.capabilities();
    let until_settled = !capabilities.durable && capabilities.settles_publishes;
    let member =
        Member { name: EventId::generate().to_string().into(), lease: settings.lease, valid_for: settings.valid_for() };
    let meter = RelayMeter::new();
    let database = outbox.inner.database.for_relay();
    let common = Arc::new(Common { outbox, database, settings, member, way, until_settled, meter });
    let stop = CancellationToken::new();
    let sharing = Sharing { common, running: HashMap::new(), stop: stop.clone() };
    Ok(Relay { stop, task: tokio::spawn(sharing.run()), publisher })
}

/// The relay's share of the shards.
struct Sharing {
    common: Arc<Common>,
    running: HashMap<i64, Running>,
    stop: CancellationToken,
}

/// One shard, with its worker or the housekeeping.
struct Running {
    shard: Arc<Shard>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sharing {
    async fn run(mut self) {
        let stop = self.stop.clone();
        let settings = self.common.settings.clone();
        let mut renewals = tokio::time::interval(settings.renewal());
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut poll = settings.poll;
        let mut next_poll = Instant::now() + poll;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = renewals.tick() => {
                    if let Err(error) = self.renew().await {
                        tracing::warn!(%error, "the relay's leases could not be renewed");
                    }
                }
                () = tokio::time::sleep_until(next_poll) => {
                    poll = match self.poll().await {
                        Ok(true) => settings.poll,
                        Ok(false) => (poll * 2).min(settings.max_poll),
                        Err(error) => {
                            tracing::debug!(%error, "the outbox could not be looked at");
                            settings.max_poll
                        }
                    };
                    next_poll = Instant::now() + poll;
                }
            }
        }
        self.leave(renewals).await;
    }

    /// Renews the leases, takes what is free and gives back what is too much.
    async fn renew(&mut self) -> Result<(), Error> {
        let (common, database) = (self.common.clone(), self.common.database.clone());
        let renewal = common.member.renew(&database).await?;
        self.running.retain(|shard, running| {
            let kept = renewal.kept.contains(&(*shard, running.shard.lease.epoch));
            if kept {
                running.shard.lease.renew(renewal.valid_until);
            } else if !running.shard.stop.is_cancelled() {
                tracing::warn!(shard, "the lease of a shard was lost");
            }
            kept && !running.task.is_finished()
        });
        if self.stop.is_cancelled() {
            return Ok(());
        }
        let shards = common.outbox.inner.shards as usize;
        let share = shards.div_ceil(renewal.relays);
        let own = |(shard, running): (&i64, &Running)| {
            (*shard != HOUSEKEEPING && !running.shard.stop.is_cancelled()).then_some(*shard)
        };
        let mine: Vec<i64> = self.running.iter().filter_map(own).collect();
        if !self.running.contains_key(&HOUSEKEEPING)
            && let Some(lease) = common.member.take_housekeeping(&database).await?
        {
            self.start(lease);
        }
        for surplus in mine.iter().skip(share) {
            if let Some(running) = self.running.get(surplus) {
                running.shard.stop.cancel();
            }
        }
        if mine.len() < share {
            for lease in common.member.take(&database, share - mine.len()).await? {
                self.start(lease);
            }
        }
        Ok(())
    }

    fn start(&mut self, lease: Lease) {
        let number = lease.shard;
        let (common, shard) = (self.common.clone(), Arc::new(Shard::new(lease)));
        let task = if number == HOUSEKEEPING {
            tokio::spawn(housekeeping::run(common, shard.clone()))
        } else {
            tokio::spawn(Worker::new(common, shard.clone()).run())
        };
        self.running.insert(number, Running { shard, task });
    }

    /// Looks for rows of other processes, and for delayed ones that are due; answers whether there are any.
    async fn poll(&self) -> Result<bool, Error> {
        static NEWS: Sql = Sql::new(
            "SELECT w.shard, 0 * w.shard FROM {watched} \
             WHERE EXISTS (SELECT 1 FROM messaging_outbox o WHERE o.shard = w.shard AND o.id > w.seen) \
             UNION ALL SELECT w.shard, 1 + 0 * w.shard FROM {watched} \
             WHERE EXISTS (SELECT 1 FROM messaging_outbox_delayed d WHERE d.shard = w.shard AND d.due <= {now})",
        );
        let watched = self.running.iter().filter(|(shard, _)| **shard != HOUSEKEEPING);
        let (shards, seen): (Vec<i64>, Vec<i64>) =
            watched.map(|(shard, running)| (*shard, running.shard.seen.load(Ordering::Acquire))).unzip();
        if shards.is_empty() {
            return Ok(false);
        }
        let database = &self.common.database;
        let news = database.read(&NEWS, vec![shards.into(), seen.into()]).await?;
        for record in &news {
            let read = |column| record.get::<i64>(column).map_err(|error| crate::database::failed("polling", error));
            let (shard, due) = (read(0)?, read(1)? == 1);
            if let Some(running) = self.running.get(&shard).filter(|_| due) {
                running.shard.due.store(true, Ordering::Release);
            }
            self.common.outbox.written([shard]);
        }
        Ok(!news.is_empty())
    }

    /// Lets every worker end, renewing their leases meanwhile, then leaves.
    async fn leave(mut self, mut renewals: tokio::time::Interval) {
        for running in self.running.values() {
            running.shard.stop.cancel();
        }
        while let Some((number, running)) = self.running.iter_mut().next() {
            let number = *number;
            let ended = tokio::select! {
                _ = &mut running.task => true,
                _ = renewals.tick() => false,
            };
            if ended {
                self.running.remove(&number);
            } else if let Err(error) = self.renew().await {
                tracing::warn!(%error, "the relay's leases could not be renewed");
            }
        }
        let Common { member, database, .. } = &*self.common;
        if let Err(error) = member.leave(database).await {
            tracing::warn!(%error, "the relay could not leave: the others wait until it expires");
        }
    }
}
