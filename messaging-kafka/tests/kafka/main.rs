//! The Kafka backend against a real Apache Kafka: what the conformance suite does not ask of every backend.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod given;
mod healing;
mod joining;
mod progress;
#[cfg(feature = "tls")]
mod security;
mod topics;
mod wire;
