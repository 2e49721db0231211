//! What every service needs once: settings, a database, an HTTP server with health and metrics, a broker and an outbox,
//! telemetry, and a process that stops gracefully.
//!
//! A service is a thin crate on top: its domain, its routes, its SQL and its event handlers.
//!
//! What does much and is called seldom returns a [`BoxFuture`]. The body of an `async fn` is compiled again in every
//! crate that awaits it, with all that it calls, and three programs stand on this crate.
#![warn(missing_docs)]

pub mod broker;
pub mod check;
pub mod database;
pub mod email;
pub mod http;
pub mod lag;
pub mod outbox;
pub mod patience;
pub mod process;
pub mod settings;
pub mod telemetry;

pub use database::{Database, DatabaseError};
pub use email::EmailAddress;
pub use process::StartError;
pub use settings::{Environment, Setting, SettingError};

/// A future whose type ends at its crate's boundary.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
