//! The service's own unit test, on the bus in the process.

use messaging_memory::MemoryBroker;
use reuse::{Noted, OrderCreated, schemes};

#[tokio::test]
async fn an_order_is_noted() -> Result<(), Box<dyn std::error::Error>> {
    let (bus, noted) = (MemoryBroker::new(), Noted::default());
    let running = bus.messaging().run([noted.clone()]).await?;
    bus.publish(&OrderCreated { order_id: 7 }).await?;
    bus.settled().await?;
    assert_eq!(*noted.0.lock().expect("nobody panics with the lock"), [7]);
    drop(running);
    Ok(())
}

#[test]
fn the_backends_are_those_that_were_asked_for() {
    let brokers = if cfg!(feature = "all") { 3 } else { 0 };
    let there = schemes();
    assert!(there.contains(&"memory"));
    for scheme in ["kafka", "redis", "amqp"] {
        assert_eq!(there.contains(&scheme), brokers > 0, "{there:?}");
    }
}
