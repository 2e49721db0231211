//! Orders in the database.

use jiff::Timestamp;
use service_kit::database::{DatabaseSettings, FromRecord, Migration, Record};
use service_kit::http::{Page, PageOf};
use service_kit::outbox::Tx;
use service_kit::{Database, DatabaseError};

use crate::order::{Order, OrderChanges, OrderInput, Status, Total};

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "orders",
    sqlite: include_str!("../migrations/sqlite/0001_orders.sql"),
    postgres: include_str!("../migrations/postgres/0001_orders.sql"),
}];

/// The table of orders; clones share the database's connections.
#[derive(Debug, Clone)]
pub struct OrderStore {
    database: Database,
}

/// What became of the wish to complete an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// It is completed now, by this call.
    Completed(Order),
    /// Somebody had completed it before.
    AlreadyCompleted,
    /// There is no such order.
    NotFound,
}

impl OrderStore {
    /// Opens the service's database and brings its schema up to date.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub async fn open(settings: &DatabaseSettings) -> Result<Self, DatabaseError> {
        Ok(Self { database: Database::open(settings, MIGRATIONS).await? })
    }

    /// The database that the table is in.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Adds a pending order.
    ///
    /// # Errors
    /// The statement failed; see [`DatabaseError::is_unavailable`].
    pub async fn insert(&self, tx: &mut Tx, input: &OrderInput) -> Result<Order, DatabaseError> {
        Database::within(
            tx,
            "INSERT INTO orders (user_id, user_email, total_cents, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $4) \
             RETURNING id, user_id, user_email, total_cents, status, created_at, updated_at",
        )
        .bind(input.user_id.get())
        .bind(input.user_email.as_str())
        .bind(input.total.cents())
        .bind(now())
        .one()
        .await
    }

    /// The order with this id.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub async fn get(&self, id: i64) -> Result<Option<Order>, DatabaseError> {
        self.database
            .read(
                "SELECT id, user_id, user_email, total_cents, status, created_at, updated_at \
                 FROM orders WHERE id = $1",
            )
            .bind(id)
            .optional()
            .await
    }

    /// A page of the orders, of all or of those with this status.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub async fn list(&self, page: Page, status: Option<Status>) -> Result<PageOf<Order>, DatabaseError> {
        let status = status.map(Status::as_str);
        let orders = self
            .database
            .read(
                "SELECT id, user_id, user_email, total_cents, status, created_at, updated_at \
                 FROM orders WHERE $1 IS NULL OR status = $1 ORDER BY id LIMIT $2 OFFSET $3",
            )
            .bind(status)
            .bind(page.limit())
            .bind(page.offset())
            .all();
        let count =
            self.database.read("SELECT COUNT(*) FROM orders WHERE $1 IS NULL OR status = $1").bind(status).one::<i64>();
        let (orders, count) = tokio::try_join!(orders, count)?;
        Ok(page.of(orders, count))
    }

    /// Changes an order and answers what it is now.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub async fn update(&self, id: i64, changes: &OrderChanges) -> Result<Option<Order>, DatabaseError> {
        self.database
            .write(
                "UPDATE orders SET user_id = COALESCE($2, user_id), user_email = COALESCE($3, user_email), \
                 total_cents = COALESCE($4, total_cents), updated_at = $5 WHERE id = $1 \
                 RETURNING id, user_id, user_email, total_cents, status, created_at, updated_at",
            )
            .bind(id)
            .bind(changes.user_id.map(|user_id| user_id.get()))
            .bind(changes.user_email.as_ref().map(|address| address.as_str()))
            .bind(changes.total.map(Total::cents))
            .bind(now())
            .optional()
            .await
    }

    /// Completes a pending order; of two transactions at once, one does.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub async fn complete(&self, tx: &mut Tx, id: i64) -> Result<Completion, DatabaseError> {
        let completed = Database::within(
            tx,
            "UPDATE orders SET status = 'completed', updated_at = $2 WHERE id = $1 AND status = 'pending' \
             RETURNING id, user_id, user_email, total_cents, status, created_at, updated_at",
        )
        .bind(id)
        .bind(now())
        .optional()
        .await?;
        if let Some(order) = completed {
            return Ok(Completion::Completed(order));
        }
        let found: Option<i64> =
            Database::within(tx, "SELECT id FROM orders WHERE id = $1").bind(id).optional().await?;
        Ok(if found.is_some() { Completion::AlreadyCompleted } else { Completion::NotFound })
    }

    /// Removes an order; its id is not used again. Answers whether it was there.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub async fn delete(&self, id: i64) -> Result<bool, DatabaseError> {
        let deleted: Option<i64> =
            self.database.write("DELETE FROM orders WHERE id = $1 RETURNING id").bind(id).optional().await?;
        Ok(deleted.is_some())
    }
}

fn now() -> i64 {
    Timestamp::now().as_microsecond()
}

impl FromRecord for Order {
    fn from_record(record: &Record<'_>) -> Result<Self, DatabaseError> {
        Ok(Self {
            id: record.get("id")?,
            user_id: record.get("user_id")?,
            user_email: record.get("user_email")?,
            total: Total::from_cents(record.get("total_cents")?),
            status: record.parsed("status")?,
            created_at: record.timestamp("created_at")?,
            updated_at: record.timestamp("updated_at")?,
        })
    }
}
