//! Apache Kafka behind the `messaging` crate: an idempotent publisher, and consumers that keep the order of each key,
//! hand partitions over without repeating what is finished, and stop when they can no longer be sure that a partition is
//! theirs.
//!
//! Choose it by an address: `kafka://host:9092`; its options are those of [`KafkaConfig`].
//!
//! # Features
//!
//! - `tls`: TLS and SASL (PLAIN, SCRAM), through the system's OpenSSL.
#![warn(missing_docs)]

mod admin;
mod backlog;
mod broker;
mod config;
mod consumer;
mod error;
mod inspect;
mod log;
mod mark;
mod outcome;
mod outstanding;
mod progress;
mod publisher;
mod record;
mod refused;
mod retry;
mod security;
mod topics;

pub use broker::{KafkaBackend, KafkaBroker};
pub use config::{ExpiredOffsets, KafkaConfig};
