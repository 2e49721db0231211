//! Publishes an order and handles it, on whatever broker `MESSAGING_URL` names:
//!
//! ```sh
//! MESSAGING_URL=memory: cargo run -p examples --bin publish_and_consume
//! MESSAGING_URL=redis://localhost:6379 cargo run -p examples --bin publish_and_consume
//! ```
//!
//! It ends with Ctrl-C.

use std::time::Duration;

use examples::{Notifications, created};
use messaging::{Error, MessagingConfig, configure_messaging};
use messaging_backends::backends;

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().init();

    let config = MessagingConfig::from_env()?.source("orders");
    let messaging = configure_messaging(&config, backends()).await?;
    let running = messaging.run([Notifications]).await?;

    created(&messaging, 7, "user@example.com".into()).await?;

    // Stopping: what runs may end, what is done is settled, nothing is repeated.
    if let Err(error) = tokio::signal::ctrl_c().await {
        eprintln!("no signal to wait for: {error}");
    }
    running.shutdown(Duration::from_secs(25)).await?;
    messaging.close(Duration::from_secs(5)).await
}
