//! Who relays which shard: a row per shard with owner, epoch and expiry by the database's clock. Relays that live share
//! the shards evenly; those of one that went silent are free once they expire.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use messaging::{BootClock, Clock, Error, Tick};

use crate::database::{Database, Record, Sql, failed};

/// The shard of the housekeeping, which is leased like the others and counts for nobody's share.
pub(crate) const HOUSEKEEPING: i64 = -1;

/// One shard that this relay has.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) shard: i64,
    pub(crate) owner: Arc<str>,
    /// Grows with every change of the owner.
    pub(crate) epoch: i64,
    /// Until when it surely lasts: nanoseconds of the clock that goes on while the machine is suspended.
    valid_until: AtomicU64,
}

impl Lease {
    fn new(shard: i64, owner: Arc<str>, epoch: i64, valid_until: Tick) -> Self {
        let lease = Self { shard, owner, epoch, valid_until: AtomicU64::new(0) };
        lease.renew(valid_until);
        lease
    }

    /// Whether it surely lasts for so long.
    pub(crate) fn lasts(&self, time: Duration) -> bool {
        let needed = BootClock.now() + time;
        nanos(needed) <= self.valid_until.load(Ordering::Acquire)
    }

    pub(crate) fn renew(&self, valid_until: Tick) {
        self.valid_until.fetch_max(nanos(valid_until), Ordering::AcqRel);
    }
}

fn nanos(tick: Tick) -> u64 {
    u64::try_from(tick.since_start().as_nanos()).unwrap_or(u64::MAX)
}

/// This relay among the others.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: Arc<str>,
    pub(crate) lease: Duration,
    /// How long a lease counts here after its renewal was sent.
    pub(crate) valid_for: Duration,
}

/// What one renewal found.
pub(crate) struct Renewal {
    /// The shards this relay still has: number and epoch.
    pub(crate) kept: Vec<(i64, i64)>,
    /// How many relays live, this one among them.
    pub(crate) relays: usize,
    /// Until when the kept ones surely last.
    pub(crate) valid_until: Tick,
}

impl Member {
    fn micros(&self) -> i64 {
        i64::try_from(self.lease.as_micros()).unwrap_or(i64::MAX / 4)
    }

    /// Says that this relay lives, and renews what it has.
    pub(crate) async fn renew(&self, database: &Database) -> Result<Renewal, Error> {
        static LIVE: Sql = Sql::new(
            "INSERT INTO messaging_outbox_relays (relay, expires_at) VALUES ($1, {now} + $2) \
             ON CONFLICT (relay) DO UPDATE SET expires_at = excluded.expires_at",
        );
        static RENEW: Sql = Sql::new(
            "UPDATE messaging_outbox_shards SET expires_at = {now} + $2 WHERE owner = $1 RETURNING shard, epoch",
        );
        static COUNT: Sql = Sql::new("SELECT COUNT(*) FROM messaging_outbox_relays WHERE expires_at > {now}");
        let arguments = || vec![self.name.as_ref().into(), self.micros().into()];
        database.write(&LIVE, arguments()).await?;
        let valid_until = BootClock.now() + self.valid_for;
        let kept = shards(&database.write(&RENEW, arguments()).await?)?;
        let relays = database.read(&COUNT, Vec::new()).await?;
        let relays = relays.first().map_or(Ok(1), |record| record.get::<i64>(0));
        let relays = relays.map_err(|error| failed("counting relays", error))?;
        Ok(Renewal { kept, relays: usize::try_from(relays).unwrap_or(1).max(1), valid_until })
    }

    /// Takes up to so many shards that are free.
    pub(crate) async fn take(&self, database: &Database, count: usize) -> Result<Vec<Lease>, Error> {
        static TAKE: Sql = Sql::new(
            "UPDATE messaging_outbox_shards SET owner = $1, epoch = epoch + 1, expires_at = {now} + $2 \
             WHERE shard IN (SELECT shard FROM messaging_outbox_shards \
             WHERE shard >= 0 AND expires_at < {now} ORDER BY shard LIMIT $3 {skip locked}) RETURNING shard, epoch",
        );
        self.taken(database, &TAKE, i64::try_from(count).unwrap_or(i64::MAX)).await
    }

    /// Takes the housekeeping, if it is free.
    pub(crate) async fn take_housekeeping(&self, database: &Database) -> Result<Option<Lease>, Error> {
        static TAKE: Sql = Sql::new(
            "UPDATE messaging_outbox_shards SET owner = $1, epoch = epoch + 1, expires_at = {now} + $2 \
             WHERE shard = $3 AND expires_at < {now} RETURNING shard, epoch",
        );
        Ok(self.taken(database, &TAKE, HOUSEKEEPING).await?.pop())
    }

    async fn taken(&self, database: &Database, sql: &'static Sql, last: i64) -> Result<Vec<Lease>, Error> {
        let valid_until = BootClock.now() + self.valid_for;
        let records = database.write(sql, vec![self.name.as_ref().into(), self.micros().into(), last.into()]).await?;
        let taken = shards(&records)?.into_iter();
        Ok(taken.map(|(shard, epoch)| Lease::new(shard, self.name.clone(), epoch, valid_until)).collect())
    }

    /// Gives a shard back, for others to take at once.
    pub(crate) async fn release(&self, database: &Database, lease: &Lease) -> Result<(), Error> {
        static RELEASE: Sql = Sql::new(
            "UPDATE messaging_outbox_shards SET owner = '', expires_at = 0 \
             WHERE shard = $1 AND owner = $2 AND epoch = $3",
        );
        let arguments = vec![lease.shard.into(), self.name.as_ref().into(), lease.epoch.into()];
        database.write(&RELEASE, arguments).await.map(drop)
    }

    /// Leaves: the others' shares grow at once.
    pub(crate) async fn leave(&self, database: &Database) -> Result<(), Error> {
        static LEAVE: Sql = Sql::new("DELETE FROM messaging_outbox_relays WHERE relay = $1");
        database.write(&LEAVE, vec![self.name.as_ref().into()]).await.map(drop)
    }
}

fn shards(records: &[Record]) -> Result<Vec<(i64, i64)>, Error> {
    let shards: Result<_, sqlx::Error> = records.iter().map(|record| Ok((record.get(0)?, record.get(1)?))).collect();
    shards.map_err(|error| failed("reading leases", error))
}
