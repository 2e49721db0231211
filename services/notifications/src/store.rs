//! Notifications in the database.

use jiff::Timestamp;
use service_kit::database::{DatabaseSettings, FromRecord, Migration, Record};
use service_kit::http::{Page, PageOf};
use service_kit::outbox::Tx;
use service_kit::{Database, DatabaseError, EmailAddress};

use crate::notification::{Notification, NotificationInput};

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "notifications",
    sqlite: include_str!("../migrations/sqlite/0001_notifications.sql"),
    postgres: include_str!("../migrations/postgres/0001_notifications.sql"),
}];

/// The table of notifications; clones share the database's connections.
#[derive(Debug, Clone)]
pub struct NotificationStore {
    database: Database,
}

impl NotificationStore {
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

    /// Adds a notification.
    ///
    /// # Errors
    /// The statement failed; see [`DatabaseError::is_unavailable`].
    pub async fn insert(&self, tx: &mut Tx, input: &NotificationInput) -> Result<Notification, DatabaseError> {
        Database::within(
            tx,
            "INSERT INTO notifications (user_email, subject, body, created_at) VALUES ($1, $2, $3, $4) \
             RETURNING id, user_email, subject, body, sent_at, created_at",
        )
        .bind(input.user_email.as_str())
        .bind(input.subject)
        .bind(input.body.as_str())
        .bind(now())
        .one()
        .await
    }

    /// The notification with this id.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub async fn get(&self, id: i64) -> Result<Option<Notification>, DatabaseError> {
        self.database
            .read("SELECT id, user_email, subject, body, sent_at, created_at FROM notifications WHERE id = $1")
            .bind(id)
            .optional()
            .await
    }

    /// A page of the notifications, of all or of those for this address.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub async fn list(
        &self,
        page: Page,
        user_email: Option<&EmailAddress>,
    ) -> Result<PageOf<Notification>, DatabaseError> {
        let user_email = user_email.map(EmailAddress::as_str);
        let notifications = self
            .database
            .read(
                "SELECT id, user_email, subject, body, sent_at, created_at FROM notifications \
                 WHERE $1 IS NULL OR user_email = $1 ORDER BY id LIMIT $2 OFFSET $3",
            )
            .bind(user_email)
            .bind(page.limit())
            .bind(page.offset())
            .all();
        let count = self
            .database
            .read("SELECT COUNT(*) FROM notifications WHERE $1 IS NULL OR user_email = $1")
            .bind(user_email)
            .one::<i64>();
        let (notifications, count) = tokio::try_join!(notifications, count)?;
        Ok(page.of(notifications, count))
    }

    /// Notes that the e-mail was sent now, unless that was noted before.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub async fn mark_sent(&self, id: i64) -> Result<(), DatabaseError> {
        self.database
            .write("UPDATE notifications SET sent_at = $2 WHERE id = $1 AND sent_at IS NULL")
            .bind(id)
            .bind(now())
            .execute()
            .await
    }
}

fn now() -> i64 {
    Timestamp::now().as_microsecond()
}

impl FromRecord for Notification {
    fn from_record(record: &Record<'_>) -> Result<Self, DatabaseError> {
        Ok(Self {
            id: record.get("id")?,
            user_email: record.get("user_email")?,
            subject: record.get("subject")?,
            body: record.get("body")?,
            sent_at: record.optional_timestamp("sent_at")?,
            created_at: record.timestamp("created_at")?,
        })
    }
}
