//! Inserting rows into the outbox: all of a transaction in one statement, in their order.

use messaging::Message;

use crate::row::{self, Due};

/// A row to be inserted.
#[derive(Clone, Debug)]
pub(crate) struct NewRow {
    pub(crate) shard: i64,
    pub(crate) lane: Option<i64>,
    pub(crate) due: Due,
    pub(crate) topic: String,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) name: Option<String>,
    pub(crate) event_id: Option<String>,
    pub(crate) head: String,
    pub(crate) payload: Vec<u8>,
}

impl NewRow {
    pub(crate) fn new(message: &Message, due: Due, shards: u32) -> Self {
        let lane = crate::lane::of(message);
        Self {
            shard: crate::lane::shard(lane, shards),
            lane,
            due,
            topic: message.topic.to_string(),
            key: message.key.as_ref().map(|key| key.to_vec()),
            name: message.name().map(str::to_owned),
            event_id: message.envelope.as_ref().map(|envelope| envelope.id.to_string()),
            head: row::head(message),
            payload: message.payload.to_vec(),
        }
    }
}

const COLUMNS: &str = "shard, lane, topic, key, name, event_id, head, payload";

#[cfg(feature = "postgres")]
pub(super) async fn postgres(connection: &mut sqlx::PgConnection, rows: &[NewRow]) -> Result<(), sqlx::Error> {
    use std::sync::LazyLock;
    // The values are numbered by their order, which becomes that of the ids.
    const VALUES: &str = "UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::bytea[], $5::text[], $6::text[], \
                          $7::text[], $8::bytea[]";
    const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    // Whoever has an id has a transaction's number before, by which relays know how long rows may appear below one.
    static AT_ONCE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "INSERT INTO messaging_outbox ({COLUMNS}, created_at) SELECT {COLUMNS}, {NOW} \
             FROM {VALUES}) WITH ORDINALITY AS v ({COLUMNS}, place) WHERE txid_current() > 0 ORDER BY place"
        )
    });
    static LATER: LazyLock<String> = LazyLock::new(|| {
        format!(
            "INSERT INTO messaging_outbox_delayed ({COLUMNS}, created_at, due) \
             SELECT {COLUMNS}, {NOW}, COALESCE(at, {NOW} + after) \
             FROM {VALUES}, $9::bigint[], $10::bigint[]) WITH ORDINALITY AS v ({COLUMNS}, at, after, place) \
             ORDER BY place"
        )
    });
    let (at_once, later): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.due == Due::Now);
    for (text, rows) in [(&*LATER, later), (&*AT_ONCE, at_once)] {
        if rows.is_empty() {
            continue;
        }
        let mut query = sqlx::query(text.as_str())
            .bind(rows.iter().map(|row| row.shard).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.lane).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.topic.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.key.as_deref()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.name.as_deref()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.event_id.as_deref()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.head.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.payload.as_slice()).collect::<Vec<_>>());
        if std::ptr::eq(text, &*LATER) {
            query = query
                .bind(rows.iter().map(|row| row.due.at()).collect::<Vec<_>>())
                .bind(rows.iter().map(|row| row.due.after()).collect::<Vec<_>>());
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

#[cfg(feature = "sqlite")]
pub(super) async fn sqlite(connection: &mut sqlx::SqliteConnection, rows: &[NewRow]) -> Result<(), sqlx::Error> {
    use sqlx::QueryBuilder;
    /// SQLite takes 32,766 values in a statement. More rows than this take several; the writer's lock keeps others out
    /// in between.
    const ROWS: usize = 2_000;
    const NOW: &str = "CAST(unixepoch('subsec') * 1000000 AS INTEGER)";
    let (at_once, later): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.due == Due::Now);
    for rows in later.chunks(ROWS) {
        let mut insert =
            QueryBuilder::new(format!("INSERT INTO messaging_outbox_delayed ({COLUMNS}, created_at, due) "));
        insert.push_values(rows, |mut values, row| {
            bind(&mut values, row);
            values.push(NOW);
            values.push("COALESCE(").push_bind_unseparated(row.due.at());
            values.push_unseparated(format!(", {NOW} + ")).push_bind_unseparated(row.due.after());
            values.push_unseparated(")");
        });
        insert.build().execute(&mut *connection).await?;
    }
    for rows in at_once.chunks(ROWS) {
        let mut insert = QueryBuilder::new(format!("INSERT INTO messaging_outbox ({COLUMNS}, created_at) "));
        insert.push_values(rows, |mut values, row| {
            bind(&mut values, row);
            values.push(NOW);
        });
        insert.build().execute(&mut *connection).await?;
    }
    return Ok(());

    fn bind(values: &mut sqlx::query_builder::Separated<'_, sqlx::Sqlite, &str>, row: &NewRow) {
        values
            .push_bind(row.shard)
            .push_bind(row.lane)
            .push_bind(row.topic.clone())
            .push_bind(row.key.clone())
            .push_bind(row.name.clone())
            .push_bind(row.event_id.clone())
            .push_bind(row.head.clone())
            .push_bind(row.payload.clone());
    }
}
