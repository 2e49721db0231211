//! Publishing, and what every group gets of it.

use messaging_memory::MemoryBroker;

use crate::given::{OrderCreated, Seen, notes, order};

#[tokio::test(start_paused = true)]
async fn what_is_published_is_handled_and_settled() {
    let bus = MemoryBroker::new();
    let seen = Seen::new();
    let _running = bus.messaging().run_one(notes("billing", &seen)).await.unwrap();
    bus.publish(&order(1, 0)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [order(1, 0)]);
    let published: Vec<_> = bus.published::<OrderCreated>().unwrap().into_iter().map(|event| event.data).collect();
    assert_eq!(published, [order(1, 0)]);
}
