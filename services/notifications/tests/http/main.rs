//! The notifications API over real HTTP, on each database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod app;
mod documents;
mod reading;
