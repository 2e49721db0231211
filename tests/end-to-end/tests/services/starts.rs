//! Programs that start before their broker.

use serde_json::json;
use service_testing::{Client, StatusCode, each_is_notified_once, until_notified};
use test_brokers::{Broker, Kind, Postgres};

use crate::flow::times;
use crate::services::Services;

/// How many orders are placed while the broker is away.
const ORDERS: usize = 20;

/// What took orders and what handles them is started while the broker is away: orders are taken at once, and everything
/// arrives when the broker comes.
pub(crate) async fn what_starts_first_waits(postgres: &Postgres, broker: &Broker) {
    // A broker that was given to the tests is not ours to stop.
    if times("END_TO_END_STARTS", usize::from(broker.kind() == Kind::Redis)) == 0 || broker.nodes().is_err() {
        return;
    }
    let mut services = Services::start(postgres, broker).await;
    broker.stop().await.unwrap();
    services.orders_api.kill().await;
    services.orders_api.start_again().await;
    let orders = services.orders_api.client().clone();
    assert_eq!(messaging(&orders).await, "unavailable");
    for consumer in &mut services.consumers {
        consumer.kill().await;
        consumer.serve_again().await;
        let ready = consumer.client().get("/health/ready").await;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "{}", ready.body);
    }
    for number in 0..ORDERS {
        let order = json!({"user_id": number + 1, "user_email": "user@example.com", "total": "1.00"});
        let placed = orders.post("/api/v1/orders/", &order).await;
        assert_eq!(placed.status, StatusCode::CREATED, "{}", placed.body);
    }
    assert_eq!(services.orders_tables.recorded().await.len(), ORDERS);
    services.orders_api.says("waiting for the broker").await;
    for consumer in &mut services.consumers {
        consumer.says("waiting for the broker").await;
    }
    assert_eq!(messaging(&orders).await, "unavailable");

    broker.start().await.unwrap();
    for consumer in &services.consumers {
        consumer.until_ready().await;
    }
    until_notified(&orders, &services.notifications).await;
    services.until_published().await;
    assert_eq!(each_is_notified_once(&orders, &services.notifications).await, ORDERS);
    assert_eq!(messaging(&orders).await, "ok");
    services.stop().await;
}

/// What `orders api` says of its broker; it is ready all the while.
async fn messaging(orders: &Client) -> String {
    let ready = orders.get("/health/ready").await;
    assert_eq!(ready.status, StatusCode::OK, "{}", ready.body);
    ready.body["checks"]["messaging"].as_str().unwrap().to_owned()
}
