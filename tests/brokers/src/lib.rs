//! Real brokers for tests: Apache Kafka, Redis, RabbitMQ and PostgreSQL as child processes, to be used and to be harmed.
//!
//! ```no_run
//! # async fn test() -> Result<(), test_brokers::Error> {
//! use test_brokers::{Direction, Faults, Redis};
//!
//! let redis = Redis::options().args(["--maxmemory", "10mb"]).start().await?;
//! println!("{} listens on {}", redis.kind(), redis.url());
//!
//! let route = redis.route().await?; // through a proxy, for this test alone
//! route.set(&Faults::new().stall(Direction::ToClient)); // half-open from here on
//!
//! redis.kill().await?; // kill -9
//! redis.start().await?; // on the same port and data
//! # Ok(()) }
//! ```
//!
//! Each broker has a data folder of its own and free ports on 127.0.0.1; one that the machine already runs is never
//! touched. It is ready when a start returns, as it answered in its own protocol. It ends when it is dropped and when the
//! test process ends, however that ends.
//!
//! # Where brokers come from
//!
//! In this order:
//!
//! 1. the address in `TEST_KAFKA_URL`, `TEST_REDIS_URL`, `TEST_RABBITMQ_URL` or `TEST_POSTGRES_URL`: used as it is, and
//!    nothing may control it;
//! 2. programs that are installed (Kafka also by `KAFKA_HOME`);
//! 3. containers, where a Docker engine answers;
//! 4. packages, fetched once into `target/brokers`: from Debian by `apt-get download`, unpacked without being installed;
//!    Kafka's jars by Maven. Java and Maven themselves are installed by `apt-get`, if they are missing and we are root.
//!
//! `TEST_BROKERS_SOURCES` narrows 2 to 4 to a list out of `installed`, `container` and `fetched`. `TEST_BROKERS_CACHE` is
//! another folder for the packages. [`Summary`] tells what would be used; [`or_skip`] lets a test pass over a broker that
//! this machine cannot have, unless `CI=true`.
//!
//! # Sharing
//!
//! `shared()` of each broker starts it once per process, for tests that do not harm it. Faults on a [`Route`] harm only
//! those who connect through it, so such tests can share a broker as well.

#![warn(missing_docs)]

mod address;
mod broker;
mod command;
mod error;
mod kafka;
mod kind;
mod launch;
mod node;
mod options;
mod ports;
mod postgres;
mod process;
mod programs;
mod proxy;
mod rabbitmq;
mod ready;
mod redis;
mod route;
mod summary;
#[cfg(feature = "tls")]
mod tls;
mod watchdog;

pub use crate::broker::Broker;
pub use crate::error::Error;
pub use crate::kafka::{Kafka, KafkaOptions, Listener};
pub use crate::kind::Kind;
pub use crate::node::Node;
pub use crate::postgres::{Postgres, PostgresOptions};
pub use crate::process::{is_alive, started_at};
pub use crate::programs::Origin;
pub use crate::proxy::{Direction, Ending, Faults, Proxy, Traffic};
pub use crate::rabbitmq::{RabbitMq, RabbitMqOptions};
pub use crate::redis::{Redis, RedisOptions};
pub use crate::route::Route;
pub use crate::summary::{Line, Summary, is_ci, or_skip};
#[cfg(feature = "tls")]
pub use crate::tls::Certificates;
