//! Handles orders in batches, as one would write them to a search index: one call for many, an outcome for each.
//!
//! ```sh
//! MESSAGING_URL=memory: cargo run -p examples --bin batch_handler
//! ```
//!
//! It publishes orders of its own, and ends with Ctrl-C.

use std::{sync::Arc, time::Duration};

use examples::{OrderCreated, created};
use messaging::{
    BatchOptions, Error, Event, HandlerError, MessagingConfig, Result, Route, Router, Shared, configure_messaging,
};
use messaging_backends::backends;

/// Where orders are found: it takes many at once, and refuses single ones.
struct Index;

impl Index {
    async fn add(&self, orders: &[Event<OrderCreated>]) -> Result<Vec<bool>> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        println!("{} orders in one call", orders.len());
        Ok(orders.iter().map(|order| order.data.order_id != 13).collect())
    }
}

/// No two events of a key are in one batch. An error of the call is that of every message; otherwise each is settled,
/// tried again or dead-lettered by its own outcome.
async fn index(batch: Vec<Event<OrderCreated>>, index: Shared<Index>) -> Result<Vec<Result<()>>> {
    let added = index.add(&batch).await?;
    let outcome = |added| if added { Ok(()) } else { Err(HandlerError::permanent("the index refuses the order")) };
    Ok(added.into_iter().map(outcome).collect())
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().init();

    let config = MessagingConfig::from_env()?.source("orders");
    let messaging = configure_messaging(&config, backends()).await?;

    // At most 100 in a batch, and five batches at once; a batch waits 10 ms for more.
    let options = BatchOptions::default().max(100).linger(Duration::from_millis(10));
    let router = Router::new("search")
        .topic("order-events")
        .concurrency(500)
        .route(Route::batch("orders.created", options, index))
        .with_shared_state(Arc::new(Index));
    let running = messaging.run_one(router).await?;

    for order_id in 0..1_000 {
        created(&messaging, order_id, "user@example.com".into()).await?;
    }

    if let Err(error) = tokio::signal::ctrl_c().await {
        eprintln!("no signal to wait for: {error}");
    }
    running.shutdown(Duration::from_secs(25)).await?;
    messaging.close(Duration::from_secs(5)).await
}
