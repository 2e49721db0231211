//! Events that the relay gave up: to be looked at, retried or discarded.

use std::sync::Arc;

use messaging::{Error, Message, Timestamp, mark_replay};

use crate::{
    database::{Ended, Record, Sql, failed},
    outbox::Outbox,
    row::{self, Columns},
};

/// An event that was given up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadRow {
    /// By which it is retried or discarded.
    pub id: i64,
    /// Why it was given up.
    pub reason: String,
    /// How often it was sent.
    pub attempts: u32,
    /// Later events of its key wait for it.
    pub holds_key: bool,
    /// When it was given up.
    pub died_at: Timestamp,
    /// The event.
    pub message: Arc<Message>,
}

impl Outbox {
    /// The events that were given up, the oldest first, at most so many.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](messaging::ErrorKind::Unavailable) if the database does not answer.
    pub async fn dead(&self, limit: u32) -> Result<Vec<DeadRow>, Error> {
        static DEAD: Sql = Sql::new(
            "SELECT id, reason, attempts, holds, died_at, topic, key, name, event_id, head, payload \
             FROM messaging_outbox_dead ORDER BY id LIMIT $1",
        );
        let records = self.inner.database.read(&DEAD, vec![i64::from(limit).into()]).await?;
        records.iter().map(dead_row).collect()
    }

    /// Puts a dead event back where it stood, before what waits for it, with its attempts counted anew; answers whether
    /// there was such an event. It goes out as a replay: a group that recorded it as dead handles it once more, one that
    /// has handled it does not.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](messaging::ErrorKind::Unavailable) if the database does not answer;
    /// [`ErrorKind::Malformed`](messaging::ErrorKind::Malformed) if the row is no event any more.
    pub async fn retry_dead(&self, id: i64) -> Result<bool, Error> {
        static ONE: Sql = Sql::new(
            "SELECT id, reason, attempts, holds, died_at, topic, key, name, event_id, head, payload \
             FROM messaging_outbox_dead WHERE id = $1",
        );
        static BACK: Sql = Sql::new(
            "INSERT INTO messaging_outbox \
             (id, shard, lane, topic, key, name, event_id, head, payload, created_at) \
             SELECT id, shard, lane, topic, key, name, event_id, $2, payload, created_at \
             FROM messaging_outbox_dead WHERE id = $1 RETURNING shard",
        );
        let records = self.inner.database.read(&ONE, vec![id.into()]).await?;
        let Some(record) = records.first() else { return Ok(false) };
        let message = columns(record).map_err(|error| failed("reading a dead event", error))?.1.message()?;
        let head = row::head(&mark_replay(message, &format!("outbox/{id}")));
        let mut transaction = self.inner.database.begin().await?;
        let moving = async {
            let mut connection = transaction.connection();
            let back = connection.run(&BACK, vec![id.into(), head.as_str().into()]).await?;
            connection.run(&REMOVE, vec![id.into()]).await?;
            back.iter().map(|record| record.get::<i64>(0)).collect::<Result<Vec<_>, _>>()
        };
        let shards = moving.await.map_err(|error| failed("retrying a dead event", error))?;
        self.inner.database.commit(transaction, &[]).await.map_err(|ended| match ended {
            Ended::RolledBack(error) | Ended::Unknown(error) => error,
        })?;
        self.recorded(shards.len());
        let found = !shards.is_empty();
        self.written(shards);
        Ok(found)
    }

    /// Removes a dead event for good, and lets its key go on; answers whether there was such an event.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](messaging::ErrorKind::Unavailable) if the database does not answer.
    pub async fn discard_dead(&self, id: i64) -> Result<bool, Error> {
        Ok(!self.inner.database.write(&REMOVE, vec![id.into()]).await?.is_empty())
    }
}

static REMOVE: Sql = Sql::new("DELETE FROM messaging_outbox_dead WHERE id = $1 RETURNING id");

fn columns(record: &Record) -> Result<(DeadRow, Columns), sqlx::Error> {
    let row = DeadRow {
        id: record.get(0)?,
        reason: record.get(1)?,
        attempts: u32::try_from(record.get::<i64>(2)?).unwrap_or(u32::MAX),
        holds_key: record.get::<i64>(3)? == 1,
        died_at: Timestamp::from_unix_micros(record.get(4)?),
        message: Arc::new(Message::new("", "")),
    };
    let columns = Columns {
        topic: record.get(5)?,
        key: record.get(6)?,
        name: record.get(7)?,
        event_id: record.get(8)?,
        head: record.get(9)?,
        payload: record.get(10)?,
    };
    Ok((row, columns))
}

fn dead_row(record: &Record) -> Result<DeadRow, Error> {
    let (row, columns) = columns(record).map_err(|error| failed("reading a dead event", error))?;
    // One that is no message any more, which may be why it is dead, is shown without its content.
    let message = columns.message().map_or(row.message, Arc::new);
    Ok(DeadRow { message, ..row })
}
