//! The checker against histories written by hand: each rule has one that must fail by it, and by nothing else, and the
//! nearest one that must pass.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]

mod bounds;
mod dead_letters;
mod loss;
mod order;
mod repeats;
mod story;
