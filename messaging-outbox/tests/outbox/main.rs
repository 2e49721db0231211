//! Outbox, relay and inbox on real databases, with the in-process bus or a broker that answers as it is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batches;
mod broker;
mod faults;
mod given;
mod housekeeping;
mod inbox;
mod recording;
mod relaying;
