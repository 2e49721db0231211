//! Exactly-once effects on a database: events that are published if and only if their transaction commits, and handlers
//! that take effect once per event. On PostgreSQL and SQLite, with every broker of [`messaging`].
//!
//! An [`Outbox`] is a few tables in the service's own database. A transaction, [`Tx`], records events beside the service's
//! rows; a [`Relay`] publishes them after the commit, in the order of each key, and is done with one only once the broker
//! has confirmed it. A handler that takes `tx: &mut Tx` runs in a transaction of its own, in which its event is recorded
//! as handled: what comes again is settled without running the handler.
//!
//! # Features
//!
//! At least one of them, both by default.
//!
//! - `postgres`: PostgreSQL, with TLS through rustls.
//! - `sqlite`: SQLite, compiled in.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use messaging::{Event, EventData, FromRef, HandlerError, Router};
//! use messaging_memory::MemoryBroker;
//! use messaging_outbox::{Outbox, OutboxSettings, RelaySettings, Tx};
//!
//! #[derive(EventData, serde::Serialize, serde::Deserialize)]
//! #[event(name = "orders.created", topic = "order-events", key = order_id)]
//! struct OrderCreated {
//!     order_id: i64,
//! }
//!
//! #[derive(Clone)]
//! struct App {
//!     outbox: Outbox,
//! }
//!
//! impl FromRef<App> for Outbox {
//!     fn from_ref(app: &App) -> Self {
//!         app.outbox.clone()
//!     }
//! }
//!
//! // In the transaction of the handler: the row and the record that this event was handled are committed together.
//! async fn on_order_created(event: Event<OrderCreated>, tx: &mut Tx) -> Result<(), HandlerError> {
//!     let insert = sqlx::query("INSERT INTO notifications (order_id) VALUES ($1)");
//!     insert.bind(event.data.order_id).execute(tx.sqlite()?).await?;
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = MemoryBroker::new();
//! # let folder = tempfile::tempdir()?;
//! # let file = format!("sqlite:{}?mode=rwc", folder.path().join("shop.db").display());
//! let pool = sqlx::SqlitePool::connect(&file).await?;
//! sqlx::raw_sql("CREATE TABLE orders (id INTEGER); CREATE TABLE notifications (order_id INTEGER)").execute(&pool).await?;
//!
//! let outbox = Outbox::open(pool.clone(), &bus.messaging(), OutboxSettings::default()).await?;
//! let relay = outbox.start_relay(RelaySettings::default()).await?;
//! let router = Router::new("notifications").topic("order-events").on_event("orders.created", on_order_created);
//! let running = bus.messaging().run_one(router.with_state(App { outbox: outbox.clone() })).await?;
//!
//! // The row and the event, or neither.
//! let mut tx = outbox.begin().await?;
//! sqlx::query("INSERT INTO orders (id) VALUES (7)").execute(tx.sqlite()?).await?;
//! tx.publish(&OrderCreated { order_id: 7 }).await?;
//! tx.commit().await?;
//!
//! bus.settled().await?;
//! let notified: i64 = sqlx::query_scalar("SELECT order_id FROM notifications").fetch_one(&pool).await?;
//! assert_eq!(notified, 7);
//! running.shutdown(Duration::from_secs(5)).await?;
//! relay.shutdown(Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! What is promised and what is not, the tables, and how to operate them: `docs/outbox.md`.
#![warn(missing_docs)]

#[cfg(not(any(feature = "postgres", feature = "sqlite")))]
compile_error!("messaging-outbox needs one of its features `postgres` and `sqlite`");

mod batch;
mod database;
mod dead;
mod inbox;
mod lane;
mod outbox;
mod pending;
mod relay;
mod row;
mod savepoint;
mod settings;
pub mod telemetry;
mod tx;

pub use database::{Connection, Pool};
pub use dead::DeadRow;
pub use outbox::Outbox;
pub use relay::Relay;
pub use savepoint::Savepoint;
pub use settings::{OnDead, OutboxSettings, RelaySettings};
pub use tx::Tx;
