//! The Kafka backend against a real Apache Kafka: what the conformance suite does not ask of every backend.

mod given;
mod healing;
mod progress;
#[cfg(feature = "tls")]
mod security;
mod topics;
mod wire;
