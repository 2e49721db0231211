//! What a program sees of the library on the in-process bus, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batches;
mod failing;
mod given;
mod groups;
mod handlers;
mod options;
mod ordering;
mod pausing;
mod publishing;
mod retention;
mod settled;
mod settler;
mod stale;
mod stopping;
