//! RabbitMQ for real: publishing, consuming, handing over, dying.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking, also in what they share"
)]

mod given;

mod deaths;
mod handover;
mod progress;
mod publishing;
#[cfg(feature = "tls")]
mod tls;
mod topology;
