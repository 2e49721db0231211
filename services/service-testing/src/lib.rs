//! What the tests of every service need: databases, an HTTP client that checks, programs as child processes.
//!
//! Everything here panics with a message when something is not as a test expects: it is for tests only.
#![warn(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod customers;
mod database;
mod ledger;
mod mail_server;
mod program;

use std::time::Duration;

pub use client::{Answer, Client};
pub use customers::Customers;
pub use database::TestDatabase;
pub use ledger::{each_is_notified_once, every_item, until_notified};
pub use mail_server::{Mail, MailServer};
pub use program::{Ended, Program};
pub use reqwest::{Method, StatusCode};

/// The longest that a test waits for anything that should happen at once, on however busy a machine.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How long to leave between two looks at something that tells nobody when it changes.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks again and again until there is what was looked for; panics with `what` if there is none in time.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    soon(what, async {
        loop {
            match look().await {
                Some(found) => return found,
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    })
    .await
}

/// Awaits what should happen soon; panics with `what` if it does not.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}
