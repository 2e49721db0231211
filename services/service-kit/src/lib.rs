//! What every service needs once: settings, a database, an HTTP server with health and metrics,
//! telemetry, and a process that stops gracefully.
//!
//! A service is a thin crate on top: its domain, its routes, its SQL and its event handlers.
#![warn(missing_docs)]

pub mod broker;
pub mod database;
pub mod email;
pub mod http;

pub mod process;
pub mod settings;
pub mod telemetry;

pub use database::{Database, DatabaseError};
pub use email::EmailAddress;
pub use process::StartError;
pub use settings::{Environment, SettingError};
