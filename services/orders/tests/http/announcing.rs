use std::collections::BTreeSet;

use messaging_memory::Fault;
use orders::events::{OrderCompleted, OrderCreated};
use serde_json::json;
use service_testing::StatusCode;

use crate::app::{TestApp, order, order_with};

service_testing::on_each_database! { crate::app::TestApp::start_with_relay:
    a_new_order_is_announced,
    a_completed_order_is_announced,
    the_payloads_are_the_documented_ones,
    what_changes_nothing_announces_nothing,
    a_broker_that_refuses_or_is_silent_is_tried_again,
}

async fn a_new_order_is_announced(app: TestApp) {
    app.post("/api/v1/orders/", &order_with("total", "99.9")).await;
    let [event] = app.announced::<OrderCreated>().await.try_into().unwrap();
    assert_eq!(event.topic(), "order-events");
    assert_eq!(event.key(), Some(b"1".as_slice()));
    assert_eq!(event.data.order_id, 1);
    assert_eq!(event.data.user_id, 1);
    assert_eq!(event.data.user_email, "user@example.com");
    assert_eq!(event.data.total.to_string(), "99.90");
}

async fn a_completed_order_is_announced(app: TestApp) {
    app.place().await;
    app.post("/api/v1/orders/1/complete", &json!({})).await;
    let [event] = app.announced::<OrderCompleted>().await.try_into().unwrap();
    assert_eq!(event.topic(), "order-events");
    assert_eq!(event.key(), Some(b"1".as_slice()));
    assert_eq!(event.data.order_id, 1);
    assert_eq!(event.data.user_email, "user@example.com");
}

async fn the_payloads_are_the_documented_ones(app: TestApp) {
    app.place().await;
    app.post("/api/v1/orders/1/complete", &json!({})).await;
    assert_eq!(
        serde_json::to_value(&app.announced::<OrderCreated>().await[0].data).unwrap(),
        json!({"order_id": 1, "user_id": 1, "user_email": "user@example.com", "total": "99.99"})
    );
    assert_eq!(
        serde_json::to_value(&app.announced::<OrderCompleted>().await[0].data).unwrap(),
        json!({"order_id": 1, "user_email": "user@example.com", "status": "completed"})
    );
}

async fn what_changes_nothing_announces_nothing(app: TestApp) {
    app.post("/api/v1/orders/", &order_with("total", "0")).await;
    app.post("/api/v1/orders/1/complete", &json!({})).await.is_problem(StatusCode::NOT_FOUND);
    app.place().await;
    app.post("/api/v1/orders/1/complete", &json!({})).await;
    app.post("/api/v1/orders/1/complete", &json!({})).await.is_problem(StatusCode::CONFLICT);
    app.put("/api/v1/orders/1", &order()).await;
    app.delete("/api/v1/orders/1").await;
    assert_eq!(app.announced::<OrderCreated>().await.len(), 1);
    assert_eq!(app.announced::<OrderCompleted>().await.len(), 1);
}

async fn a_broker_that_refuses_or_is_silent_is_tried_again(app: TestApp) {
    for fault in [Fault::Refuse("full".to_owned()), Fault::LoseConfirm] {
        app.bus.fail_next_publish(1, fault);
        assert_eq!(app.post("/api/v1/orders/", &order()).await.status, StatusCode::CREATED);
    }
    let announced: BTreeSet<i64> =
        app.announced::<OrderCreated>().await.iter().map(|event| event.data.order_id).collect();
    assert_eq!(announced, BTreeSet::from([1, 2]));
}

mod without_a_broker {
    use super::*;

    service_testing::on_each_database! { crate::app::TestApp::start: orders_are_taken_and_announced_later }

    async fn orders_are_taken_and_announced_later(app: TestApp) {
        app.place().await;
        assert_eq!(app.post("/api/v1/orders/1/complete", &json!({})).await.status, StatusCode::OK);
        assert_eq!(app.bus.published::<OrderCreated>().unwrap().len(), 0);

        let app = app.restarted_with_relay().await;
        assert_eq!(app.announced::<OrderCreated>().await.len(), 1);
        assert_eq!(app.announced::<OrderCompleted>().await.len(), 1);
    }
}
