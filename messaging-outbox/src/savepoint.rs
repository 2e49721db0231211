//! [`Savepoint`]: a part of a transaction that can be taken back alone.

use std::ops::{Deref, DerefMut};

use messaging::HandlerError;

use crate::{
    batch::within,
    database::Sql,
    tx::{Mark, Tx},
};

static SAVE: Sql = Sql::new("SAVEPOINT messaging_savepoint");
static KEEP: Sql = Sql::new("RELEASE SAVEPOINT messaging_savepoint");
static TAKE_BACK: Sql = Sql::new("ROLLBACK TO SAVEPOINT messaging_savepoint");

/// A part of a [`Tx`] that is kept or taken back alone, from [`Tx::savepoint`]. It is the transaction until its
/// [`end`](Self::end); a transaction in which one was dropped before does not commit.
#[must_use = "what is done in a savepoint is lost unless it is ended"]
pub struct Savepoint<'t> {
    tx: &'t mut Tx,
    before: Mark,
}

/// The savepoints of one transaction.
#[derive(Default)]
pub(crate) struct Savepoints {
    /// Those that have no end yet, one within the other.
    open: usize,
    /// How many were taken back that were in no other.
    taken_back: usize,
}

impl Savepoints {
    pub(crate) fn taken_back(&self) -> usize {
        self.taken_back
    }

    /// Whether one was dropped before its end.
    pub(crate) fn any_open(&self) -> bool {
        self.open > 0
    }
}

impl Tx {
    /// Begins a part of the transaction that can be taken back alone: rows and recorded events.
    ///
    /// A batch handler that answers an outcome for each message handles each in a savepoint, so that one that fails takes
    /// back its own effects and no others:
    ///
    /// ```
    /// # use messaging::{Event, EventData, Result};
    /// # use messaging_outbox::Tx;
    /// # #[derive(EventData, serde::Serialize, serde::Deserialize)]
    /// # #[event(name = "orders.created", topic = "order-events", key = order_id)]
    /// # struct OrderCreated { order_id: i64 }
    /// async fn index_all(batch: Vec<Event<OrderCreated>>, tx: &mut Tx) -> Result<Vec<Result<()>>> {
    ///     let mut outcomes = Vec::new();
    ///     for event in &batch {
    ///         let mut savepoint = tx.savepoint().await?;
    ///         let outcome = index(event, &mut savepoint).await;
    ///         outcomes.push(savepoint.end(outcome).await?);
    ///     }
    ///     Ok(outcomes)
    /// }
    ///
    /// async fn index(event: &Event<OrderCreated>, tx: &mut Tx) -> Result<()> {
    ///     let insert = sqlx::query("INSERT INTO found (order_id) VALUES ($1)");
    ///     insert.bind(event.data.order_id).execute(tx.sqlite()?).await?;
    ///     Ok(())
    /// }
    /// # let router: messaging::Router<messaging_outbox::Outbox> =
    /// #     messaging::Router::new("search").topic("order-events").on_batch("orders.created", index_all);
    /// # drop(router);
    /// ```
    ///
    /// # Errors
    /// If the database did not make it: nothing of the transaction can be kept.
    pub async fn savepoint(&mut self) -> Result<Savepoint<'_>, HandlerError> {
        self.control(&SAVE).await?;
        self.savepoints.open += 1;
        let before = self.mark();
        Ok(Savepoint { tx: self, before })
    }

    async fn control(&mut self, sql: &'static Sql) -> Result<(), HandlerError> {
        let deadline = self.outbox.inner.settings.commit_deadline;
        within(deadline, self.connection().run(sql, Vec::new())).await.map(drop)
    }
}

impl Savepoint<'_> {
    /// Keeps what was done in it if the outcome is a success, else takes it back. Answers the outcome; it is an error also
    /// if the database will not keep it, as PostgreSQL after a statement whose error was swallowed.
    ///
    /// # Errors
    /// If the database did not take it back: nothing of the transaction can be kept.
    pub async fn end<E: Into<HandlerError>>(
        self,
        outcome: Result<(), E>,
    ) -> Result<Result<(), HandlerError>, HandlerError> {
        let Self { tx, before } = self;
        let mut outcome = outcome.map_err(Into::into);
        if outcome.is_ok() {
            outcome = tx.control(&KEEP).await;
        }
        if outcome.is_err() {
            tx.control(&TAKE_BACK).await?;
            tx.control(&KEEP).await?;
            tx.forget_since(before);
            tx.savepoints.taken_back += usize::from(tx.savepoints.open == 1);
        }
        tx.savepoints.open -= 1;
        Ok(outcome)
    }
}

impl Deref for Savepoint<'_> {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        self.tx
    }
}

impl DerefMut for Savepoint<'_> {
    fn deref_mut(&mut self) -> &mut Tx {
        self.tx
    }
}

impl std::fmt::Debug for Savepoint<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Savepoint")
    }
}
