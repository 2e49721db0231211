//! The `messaging` command, run as a program against real brokers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod asked;
mod dead_letters;
mod group;
mod looking;
mod usage;
