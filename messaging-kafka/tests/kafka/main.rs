//! The Kafka backend against a real Apache Kafka.

mod given;
mod passing;
