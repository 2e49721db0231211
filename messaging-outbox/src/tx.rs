//! [`Tx`]: a database transaction that records events, to be published once it is committed.

use std::{fmt, time::Duration};

use messaging::{Error, ErrorKind, Event, EventData, EventSink, Message, Timestamp, validate_name};
use serde::Serialize;

use crate::{
    database::{Connection, Ended, NewRow, Transaction},
    inbox::Identity,
    outbox::Outbox,
    row::Due,
    savepoint::Savepoints,
};

/// A transaction: your own statements, and the events that are published if it commits.
///
/// From [`Outbox::begin`], or a handler's last argument, `tx: &mut Tx`; then the framework commits it when the handler
/// succeeds and rolls it back when it fails. Dropped, it rolls back.
///
/// Events are checked and encoded when they are recorded, and written by the last statement before COMMIT. So two
/// transactions that change the same row have their events in the order of their commits, wherever in the transaction
/// they record them. Transactions without a lock in common have no promised order.
pub struct Tx {
    transaction: Transaction,
    pub(crate) outbox: Outbox,
    recorded: Vec<NewRow>,
    bytes: usize,
    /// What it handles, in a handler.
    pub(crate) identity: Option<Identity>,
    /// What it handles, in a batch handler.
    pub(crate) members: Vec<Identity>,
    pub(crate) savepoints: Savepoints,
}

/// A point among the recorded events.
pub(crate) struct Mark {
    recorded: usize,
    bytes: usize,
}

/// More than this is more than one transaction should hold in memory.
const MAX_BYTES: usize = 64 << 20;

impl Tx {
    pub(crate) fn new(outbox: Outbox, transaction: Transaction) -> Self {
        Self {
            transaction,
            outbox,
            recorded: Vec::new(),
            bytes: 0,
            identity: None,
            members: Vec::new(),
            savepoints: Savepoints::default(),
        }
    }

    /// The connection, for statements of your own.
    pub fn connection(&mut self) -> Connection<'_> {
        self.transaction.connection()
    }

    /// The connection to PostgreSQL.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the outbox is in another database.
    #[cfg(feature = "postgres")]
    pub fn postgres(&mut self) -> Result<&mut sqlx::PgConnection, Error> {
        match self.transaction.connection() {
            Connection::Postgres(connection) => Ok(connection),
            #[cfg(feature = "sqlite")]
            Connection::Sqlite(_) => Err(Error::new(ErrorKind::Config, "the transaction is on SQLite, not PostgreSQL")),
        }
    }

    /// The connection to SQLite.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the outbox is in another database.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(&mut self) -> Result<&mut sqlx::SqliteConnection, Error> {
        match self.transaction.connection() {
            Connection::Sqlite(connection) => Ok(connection),
            #[cfg(feature = "postgres")]
            Connection::Postgres(_) => {
                Err(Error::new(ErrorKind::Config, "the transaction is on PostgreSQL, not SQLite"))
            }
        }
    }

    /// Records data as a new event, to be published after the commit.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the data cannot be encoded; [`ErrorKind::Rejected`] if the event is larger than the
    /// broker takes, or the transaction holds too many; [`ErrorKind::Config`] if its topic is no name of one.
    pub async fn publish<T: EventData>(&mut self, data: &T) -> Result<(), Error> {
        let message = self.outbox.inner.encoder.data(data)?;
        self.record(&message, Due::Now)
    }

    /// Records data as a new event, to be published at this time, or after the commit if that is later.
    ///
    /// Events of a key that are due at different times are published in the order of these times, and do not hold up
    /// others of the key. The time is the database's.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_at<T: EventData>(&mut self, data: &T, at: Timestamp) -> Result<(), Error> {
        let message = self.outbox.inner.encoder.data(data)?;
        self.record(&message, Due::At(at.unix_micros()))
    }

    /// Records data as a new event, to be published this long after the end of the transaction; see
    /// [`publish_at`](Self::publish_at).
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_after<T: EventData>(&mut self, data: &T, delay: Duration) -> Result<(), Error> {
        let message = self.outbox.inner.encoder.data(data)?;
        self.record(&message, Due::After(i64::try_from(delay.as_micros()).unwrap_or(i64::MAX / 4)))
    }

    /// Records an event with an envelope of its own.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_event<T: Serialize>(&mut self, event: Event<T>) -> Result<(), Error> {
        let message = self.outbox.inner.encoder.event(event)?;
        self.record(&message, Due::Now)
    }

    /// Records a message as it is: for a foreign topic, without an envelope.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_raw(&mut self, message: &Message) -> Result<(), Error> {
        self.record(message, Due::Now)
    }

    fn record(&mut self, message: &Message, due: Due) -> Result<(), Error> {
        validate_name("topic", &message.topic)?;
        let id = message.envelope.as_ref().map(|envelope| envelope.id.to_string()).unwrap_or_default();
        if message.name().unwrap_or_default().contains('\0') || id.contains('\0') {
            return Err(Error::new(ErrorKind::Malformed, "an event's name and id cannot hold the character U+0000"));
        }
        let messaging = self.outbox.messaging();
        let limit = messaging.map_or(usize::MAX, |messaging| messaging.capabilities().max_message_bytes);
        let weight = message.weight();
        if weight > limit {
            let what = format!(
                "an event for topic {:?} has {weight} bytes of key, payload and headers; the limit is {limit}",
                message.topic
            );
            return Err(Error::new(ErrorKind::Rejected, what));
        }
        let max = self.outbox.inner.settings.max_events;
        if self.recorded.len() >= max || self.bytes.saturating_add(weight) > MAX_BYTES {
            let what = format!("one transaction records at most {max} events and {MAX_BYTES} bytes (`max_events`)");
            return Err(Error::new(ErrorKind::Rejected, what));
        }
        self.bytes += weight;
        self.recorded.push(NewRow::new(message, due, self.outbox.inner.shards));
        Ok(())
    }

    /// Commits: your statements and the recorded events together.
    ///
    /// # Errors
    /// [`ErrorKind::Unknown`] if the answer to COMMIT did not come: it may be committed. Of any other kind: surely
    /// nothing is stored; [`ErrorKind::Unavailable`] if trying again may help, [`ErrorKind::Rejected`] if not, as when
    /// an earlier statement failed and its error went unnoticed.
    pub async fn commit(self) -> Result<(), Error> {
        self.end().await.map_err(|ended| match ended {
            Ended::RolledBack(error) => error,
            Ended::Unknown(error) => {
                Error::new(ErrorKind::Unknown, "the transaction may or may not be committed").with_source(error)
            }
        })
    }

    pub(crate) async fn end(self) -> Result<(), Ended> {
        let Self { transaction, outbox, recorded, savepoints, .. } = self;
        if savepoints.any_open() {
            let _ = outbox.inner.database.roll_back(transaction).await;
            let what = "a savepoint of the transaction was dropped before its end";
            return Err(Ended::RolledBack(Error::new(ErrorKind::Rejected, what)));
        }
        let ended = outbox.inner.database.commit(transaction, &recorded).await;
        if !matches!(ended, Err(Ended::RolledBack(_))) {
            outbox.recorded(recorded.len());
            outbox.written(recorded.iter().filter(|row| row.due == Due::Now).map(|row| row.shard));
        }
        ended
    }

    /// Rolls back: nothing is stored, nothing is published.
    ///
    /// # Errors
    /// If the database did not answer; it rolls back all the same.
    pub async fn rollback(self) -> Result<(), Error> {
        self.outbox.inner.database.roll_back(self.transaction).await
    }

    /// What is recorded so far.
    pub(crate) fn mark(&self) -> Mark {
        Mark { recorded: self.recorded.len(), bytes: self.bytes }
    }

    /// Forgets what was recorded since.
    pub(crate) fn forget_since(&mut self, mark: Mark) {
        self.recorded.truncate(mark.recorded);
        self.bytes = mark.bytes;
    }

    /// Forgets the recorded events.
    pub(crate) fn forget_recorded(&mut self) {
        self.recorded.clear();
    }
}

impl EventSink for &mut Tx {
    /// Records the event: `#[event]` on a function that takes `&mut Tx` publishes after the commit.
    async fn publish_event<T: Serialize + Send>(self, event: Event<T>) -> Result<(), Error> {
        Tx::publish_event(self, event).await
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").field("recorded", &self.recorded.len()).finish_non_exhaustive()
    }
}
