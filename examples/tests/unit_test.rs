//! How a service's handlers are tested: on the bus in the process, without a broker and without a sleep.

use examples::{Notifications, OrderCreated};
use messaging_memory::MemoryBroker;

#[tokio::test]
async fn an_order_is_notified() -> Result<(), Box<dyn std::error::Error>> {
    let bus = MemoryBroker::new();
    let messaging = bus.messaging();
    let running = messaging.run([Notifications]).await?;

    bus.publish(&OrderCreated { order_id: 7, user_email: "user@example.com".into() }).await?;
    bus.settled().await?; // every event has run its course, dead letters included

    assert!(bus.dead_letters("notifications-service").is_empty());
    drop(running);
    Ok(())
}
