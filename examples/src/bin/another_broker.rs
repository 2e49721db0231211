//! The same service on each broker that is named: nothing but the address differs.
//!
//! ```sh
//! cargo run -p examples --bin another_broker -- memory: redis://localhost:6379 kafka://localhost:9092
//! ```

use std::time::Duration;

use examples::{OrderCreated, created};
use messaging::{Error, Event, Messaging, MessagingConfig, Result, configure_messaging, consumer};
use messaging_backends::backends;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

const DEADLINE: Duration = Duration::from_secs(25);

struct Told(UnboundedSender<i64>);

#[consumer("another-broker", topics = ["order-events"])]
impl Told {
    #[on_event("orders.created")]
    async fn on_created(&self, event: Event<OrderCreated>) -> Result<()> {
        // Nobody listens any more when the program ends.
        let _ = self.0.send(event.data.order_id);
        Ok(())
    }
}

/// Knows nothing of any broker.
async fn place_and_handle(messaging: &Messaging) -> Result<Option<i64>, Error> {
    let (told, mut handled) = unbounded_channel();
    let running = messaging.run([Told(told)]).await?;
    created(messaging, 7, "user@example.com".into()).await?;
    let order = handled.recv().await;
    running.shutdown(DEADLINE).await?;
    Ok(order)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    for url in std::env::args().skip(1) {
        let config = MessagingConfig::from_url(&url)?.source("orders");
        let messaging = configure_messaging(&config, backends()).await?;
        let order = place_and_handle(&messaging).await?;
        println!("{}: order {order:?}", messaging.broker().name());
        messaging.close(DEADLINE).await?;
    }
    Ok(())
}
