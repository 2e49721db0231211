//! The rows of one shard in the database: reading, deleting, and what becomes of the refused ones. Whatever changes them
//! carries the owner and epoch of the lease, and has no effect once the shard is somebody else's.

use std::sync::Arc;

use messaging::Error;

use super::{
    horizon::Running,
    leases::Lease,
    window::{Lane, Row},
};
use crate::{
    database::{Database, Ended, NewRow, Record, Sql, failed},
    row::{Columns, Due},
};

/// A page of rows above an id, in the order of their ids. A row that cannot be read is told apart.
pub(crate) async fn read(
    database: &Database,
    shard: i64,
    above: i64,
    limit: usize,
) -> Result<Vec<Result<Row, Broken>>, Error> {
    static PAGE: Sql = Sql::new(
        "SELECT id, lane, attempts, topic, key, name, event_id, head, payload FROM messaging_outbox \
         WHERE shard = $1 AND id > $2 ORDER BY id LIMIT $3",
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let records = database.read(&PAGE, vec![shard.into(), above.into(), limit.into()]).await?;
    records.into_iter().map(row).collect::<Result<_, _>>().map_err(|error| failed("reading the outbox", error))
}

/// What is in the outbox between two ids, by id and lane, and which transactions ran at that moment. `None` where rows
/// appear in the order of their ids.
pub(crate) async fn between(
    database: &Database,
    shard: i64,
    above: i64,
    to: i64,
) -> Result<Option<(Vec<(i64, Lane)>, Running)>, Error> {
    static BETWEEN: Sql = Sql::new(
        "SELECT 0::bigint, txid_snapshot_xmin(s), txid_snapshot_xmax(s) FROM txid_current_snapshot() AS s \
         UNION ALL SELECT 1::bigint, id, lane FROM messaging_outbox WHERE shard = $1 AND id > $2 AND id <= $3",
    );
    if database.has_one_writer() {
        return Ok(None);
    }
    let records = database.read(&BETWEEN, vec![shard.into(), above.into(), to.into()]).await?;
    let (mut rows, mut running) = (Vec::with_capacity(records.len()), None);
    let mut sort = |record: &Record| {
        let (is_row, first, second) = (record.get::<i64>(0)? == 1, record.get(1)?, record.get::<Option<i64>>(2)?);
        if is_row {
            rows.push((first, second.map_or(Lane::Row(first), Lane::Key)));
        } else {
            running = second.map(|next| Running { first, next });
        }
        Ok::<_, sqlx::Error>(())
    };
    records.iter().try_for_each(&mut sort).map_err(|error| failed("reading the outbox", error))?;
    Ok(running.map(|running| (rows, running)))
}

/// A row that is no message any more, because somebody changed it.
pub(crate) struct Broken {
    pub(crate) id: i64,
    pub(crate) lane: Lane,
    pub(crate) error: Error,
}

fn row(record: Record) -> Result<Result<Row, Broken>, sqlx::Error> {
    let id = record.get(0)?;
    let lane = record.get::<Option<i64>>(1)?.map_or(Lane::Row(id), Lane::Key);
    let attempts = u32::try_from(record.get::<i64>(2)?).unwrap_or(u32::MAX);
    let columns = Columns {
        topic: record.get(3)?,
        key: record.get(4)?,
        name: record.get(5)?,
        event_id: record.get(6)?,
        head: record.get(7)?,
        payload: record.get(8)?,
    };
    Ok(match columns.message() {
        Ok(message) => Ok(Row { id, lane, attempts, message: Arc::new(message) }),
        Err(error) => Err(Broken { id, lane, error }),
    })
}

/// Deletes rows that are with the broker. A crash of the server may bring some back, to be published once more.
pub(crate) async fn delete(database: &Database, lease: &Lease, ids: &[i64]) -> Result<(), Error> {
    static DELETE: Sql = Sql::new(
        "DELETE FROM messaging_outbox WHERE shard = $1 AND id {in $2} AND {unflushed} AND EXISTS \
         (SELECT 1 FROM messaging_outbox_shards s WHERE s.shard = $1 AND s.owner = $3 AND s.epoch = $4)",
    );
    let arguments = vec![lease.shard.into(), ids.to_vec().into(), lease.owner.as_ref().into(), lease.epoch.into()];
    database.write(&DELETE, arguments).await.map(drop)
}

/// Counts an attempt on rows that the broker refused.
pub(crate) async fn count(database: &Database, lease: &Lease, ids: &[i64], error: &str) -> Result<(), Error> {
    static COUNT: Sql = Sql::new(
        "UPDATE messaging_outbox SET attempts = attempts + 1, error = $5 WHERE shard = $1 AND id {in $2} AND EXISTS \
         (SELECT 1 FROM messaging_outbox_shards s WHERE s.shard = $1 AND s.owner = $3 AND s.epoch = $4)",
    );
    let arguments =
        vec![lease.shard.into(), ids.to_vec().into(), lease.owner.as_ref().into(), lease.epoch.into(), error.into()];
    database.write(&COUNT, arguments).await.map(drop)
}

/// Gives a row up: it moves to the dead ones, with the reason.
pub(crate) async fn bury(database: &Database, lease: &Lease, id: i64, reason: &str, holds: bool) -> Result<(), Error> {
    static KEEP: Sql = Sql::new(
        "INSERT INTO messaging_outbox_dead \
         (id, shard, lane, topic, key, name, event_id, head, payload, attempts, reason, holds, created_at, died_at) \
         SELECT id, shard, lane, topic, key, name, event_id, head, payload, attempts + 1, $5, $6, created_at, {now} \
         FROM messaging_outbox WHERE shard = $1 AND id = $2 AND EXISTS \
         (SELECT 1 FROM messaging_outbox_shards s WHERE s.shard = $1 AND s.owner = $3 AND s.epoch = $4) \
         ON CONFLICT (id) DO NOTHING",
    );
    static REMOVE: Sql = Sql::new(
        "DELETE FROM messaging_outbox WHERE shard = $1 AND id = $2 \
         AND EXISTS (SELECT 1 FROM messaging_outbox_dead d WHERE d.id = $2)",
    );
    let mut transaction = database.begin().await?;
    let arguments = vec![
        lease.shard.into(),
        id.into(),
        lease.owner.as_ref().into(),
        lease.epoch.into(),
        reason.into(),
        i64::from(holds).into(),
    ];
    let burying = async {
        let mut connection = transaction.connection();
        connection.run(&KEEP, arguments).await?;
        connection.run(&REMOVE, vec![lease.shard.into(), id.into()]).await
    };
    burying.await.map_err(|error| failed("giving up an event", error))?;
    committed(database.commit(transaction, &[]).await)
}

/// The lanes of a shard that a dead row holds.
pub(crate) async fn held(database: &Database, shard: i64) -> Result<Vec<i64>, Error> {
    static HELD: Sql =
        Sql::new("SELECT DISTINCT lane FROM messaging_outbox_dead WHERE shard = $1 AND holds = 1 AND lane IS NOT NULL");
    let records = database.read(&HELD, vec![shard.into()]).await?;
    let lanes: Result<_, _> = records.iter().map(|record| record.get(0)).collect();
    lanes.map_err(|error| failed("reading the outbox", error))
}

/// Moves delayed rows of a shard that are due into the outbox, in the order of their times; answers how many.
pub(crate) async fn move_due(database: &Database, lease: &Lease, limit: usize) -> Result<usize, Error> {
    static TAKE: Sql = Sql::new(
        "DELETE FROM messaging_outbox_delayed WHERE id IN (SELECT id FROM messaging_outbox_delayed \
         WHERE shard = $1 AND due <= {now} ORDER BY due, id LIMIT $2) AND EXISTS \
         (SELECT 1 FROM messaging_outbox_shards s WHERE s.shard = $1 AND s.owner = $3 AND s.epoch = $4) \
         RETURNING due, id, lane, topic, key, name, event_id, head, payload",
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut transaction = database.begin().await?;
    let arguments = vec![lease.shard.into(), limit.into(), lease.owner.as_ref().into(), lease.epoch.into()];
    let records = transaction.connection().run(&TAKE, arguments).await;
    let taken = records.and_then(|records| {
        let mut taken = records.iter().map(|record| due(record, lease.shard)).collect::<Result<Vec<_>, _>>()?;
        taken.sort_by_key(|(due, id, _)| (*due, *id));
        Ok(taken)
    });
    let taken = taken.map_err(|error| failed("moving delayed events", error))?;
    let rows: Vec<NewRow> = taken.into_iter().map(|(_, _, row)| row).collect();
    committed(database.commit(transaction, &rows).await)?;
    Ok(rows.len())
}

fn due(record: &Record, shard: i64) -> Result<(i64, i64, NewRow), sqlx::Error> {
    let row = NewRow {
        shard,
        lane: record.get(2)?,
        due: Due::Now,
        topic: record.get(3)?,
        key: record.get(4)?,
        name: record.get(5)?,
        event_id: record.get(6)?,
        head: record.get(7)?,
        payload: record.get(8)?,
    };
    Ok((record.get(0)?, record.get(1)?, row))
}

fn committed(ended: Result<(), Ended>) -> Result<(), Error> {
    ended.map_err(|ended| match ended {
        Ended::RolledBack(error) | Ended::Unknown(error) => error,
    })
}
