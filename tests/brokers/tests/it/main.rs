//! The brokers themselves, each started for real.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking, also in what they share"
)]
mod given;
mod kafka;
#[cfg(feature = "tls")]
mod kafka_security;
mod missing;
mod orphans;
mod postgres;
mod proxy;
mod rabbitmq;
mod redis;
mod wire;
