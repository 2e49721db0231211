//! From a publish to a handler.

use std::{sync::Arc, time::Duration};

use messaging::{Capability, Message, Position, Router};
use tokio::sync::mpsc;

use crate::given::{Seen, messaging, publish, stop, topic, unique};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_handled_once_and_in_order() {
    let messaging = messaging().await;
    let topic = topic(&messaging, 4).await;
    let seen = Seen::new();
    publish(&messaging, &topic, 20, 0..5).await;
    let running = messaging.run_one(seen.quick("readers", &topic)).await.unwrap();
    publish(&messaging, &topic, 20, 5..10).await;
    seen.until(200).await;
    stop(running).await;
    seen.assert_in_order();
    assert_eq!(seen.repeats(), 0);
    messaging.close(Duration::from_secs(10)).await.unwrap();
}
