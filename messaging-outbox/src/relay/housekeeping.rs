//! What one relay does for all: sets the gauges, and cleans up the inbox and relays that are gone, a batch at a time.

use std::sync::Arc;

use messaging::Error;
use tokio::time::MissedTickBehavior;

use super::{Common, Shard};
use crate::database::{Database, Record, Sql, failed};

/// How many rows are removed by one statement, and by how many statements in a row.
const BATCH: i64 = 1_000;
const BATCHES: usize = 100;
/// Counting ends here: an exact count of a long queue costs more than it tells.
const COUNTED: i64 = 100_000;

/// Runs until it is told to stop; then the housekeeping is given back.
pub(crate) async fn run(common: Arc<Common>, shard: Arc<Shard>) {
    let mut rounds = tokio::time::interval(common.settings.housekeeping);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let database = &common.database;
    loop {
        tokio::select! {
            () = shard.stop.cancelled() => break,
            _ = rounds.tick() => {}
        }
        let kept = async {
            measure(&common).await?;
            clean(&common, &shard).await
        };
        if let Err(error) = kept.await {
            tracing::warn!(%error, "the outbox's housekeeping failed");
        }
    }
    if let Err(error) = common.member.release(database, &shard.lease).await {
        tracing::warn!(%error, "the housekeeping could not be given back: its lease expires");
    }
}

async fn measure(common: &Common) -> Result<(), Error> {
    static PENDING: Sql = Sql::new("SELECT COUNT(*) FROM (SELECT 1 AS one FROM messaging_outbox LIMIT $1) AS counted");
    static DELAYED: Sql =
        Sql::new("SELECT COUNT(*) FROM (SELECT 1 AS one FROM messaging_outbox_delayed LIMIT $1) AS counted");
    static DEAD: Sql =
        Sql::new("SELECT COUNT(*) FROM (SELECT 1 AS one FROM messaging_outbox_dead LIMIT $1) AS counted");
    // The lowest id of each shard: nearly the oldest, and found without reading the rest.
    static OLDEST: Sql = Sql::new(
        "SELECT CAST(MAX({now} - (SELECT o.created_at FROM messaging_outbox o WHERE o.shard = s.shard \
         ORDER BY o.id LIMIT 1)) AS BIGINT) FROM messaging_outbox_shards s WHERE s.shard >= 0",
    );
    let (database, meter) = (&common.database, &common.meter);
    for (sql, gauge) in [(&PENDING, &meter.pending), (&DELAYED, &meter.delayed), (&DEAD, &meter.dead_rows)] {
        gauge.set(number(&database.read(sql, vec![COUNTED.into()]).await?)? as f64);
    }
    let oldest = number(&database.read(&OLDEST, Vec::new()).await?)?;
    meter.oldest.set(oldest as f64 / 1e6);
    Ok(())
}

async fn clean(common: &Common, shard: &Shard) -> Result<(), Error> {
    static FORGET: Sql = Sql::new(
        "DELETE FROM messaging_inbox WHERE (consumer_group, source, event_id) IN \
         (SELECT consumer_group, source, event_id FROM messaging_inbox \
         WHERE recorded_at < {now} - $1 ORDER BY recorded_at LIMIT $2) RETURNING 1",
    );
    static GONE: Sql = Sql::new("DELETE FROM messaging_outbox_relays WHERE expires_at < {now} - $1");
    let database: &Database = &common.database;
    let micros = |time: std::time::Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4);
    let window = micros(common.settings.inbox_window);
    for _ in 0..BATCHES {
        // Whoever has the housekeeping now goes on where this one stops.
        if shard.stop.is_cancelled() || !shard.lease.lasts(std::time::Duration::ZERO) {
            return Ok(());
        }
        let removed = database.write(&FORGET, vec![window.into(), BATCH.into()]).await?.len();
        if (removed as i64) < BATCH {
            break;
        }
    }
    database.write(&GONE, vec![micros(common.settings.lease * 10).into()]).await?;
    Ok(())
}

/// The number in the first row, 0 where there is none.
fn number(records: &[Record]) -> Result<i64, Error> {
    let first = records.first().map(|record| record.get::<Option<i64>>(0));
    Ok(first.transpose().map_err(|error| failed("reading a number", error))?.flatten().unwrap_or(0))
}
