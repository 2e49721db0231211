//! Redis Streams for [`messaging`]: a stream per partition, one owner per partition by a lease, the same delivery contract
//! as on any other broker.
//!
//! ```no_run
//! # async fn f() -> Result<(), messaging::Error> {
//! use messaging::{MessagingConfig, configure_messaging};
//!
//! let config = MessagingConfig::from_url("redis://localhost:6379")?;
//! let messaging = configure_messaging(&config, vec![Box::new(messaging_redis::RedisBackend)]).await?;
//! # Ok(()) }
//! ```
//!
//! # Features
//!
//! - `tls`: `rediss://`, through rustls with the ring provider.
//!
//! Read on in `keeper`, which owns partitions, `reader`, which fetches from them, and `publisher`; [`RedisConfig`] lists
//! the options, and `docs/redis.md` in the repository says what lies where in Redis and what is relied on.
#![warn(missing_docs)]

mod admin;
mod assignment;
mod broker;
mod config;
mod consumer;
mod entry;
mod keeper;
mod keys;
mod ledger;
mod link;
mod membership;
mod publisher;
mod reader;
mod rights;
mod scripts;
mod server;
mod shared;
#[cfg(feature = "tls")]
mod tls;
mod topics;
mod trim;

pub use broker::{RedisBackend, RedisBroker};
pub use config::{Durability, RedisConfig, Retention, Tls, Unread};
