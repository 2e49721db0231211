//! The orders API over real HTTP, on each database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod announcing;
mod app;
mod changing;
mod completing;
mod deleting;
mod documents;
mod operating;
mod placing;
mod reading;
mod refusing;
