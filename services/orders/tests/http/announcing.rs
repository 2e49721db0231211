use messaging_memory::Fault;
use orders::events::{OrderCompleted, OrderCreated};
use serde_json::json;
use service_testing::StatusCode;

use crate::app::{TestApp, order, order_with};

service_testing::on_each_database! { crate::app::TestApp::start:
    a_new_order_is_announced,
    a_completed_order_is_announced,
    the_payloads_are_the_documented_ones,
    what_changes_nothing_announces_nothing,
    an_order_that_cannot_be_announced_says_so,
    a_completion_that_cannot_be_announced_says_so,
}

async fn a_new_order_is_announced(app: TestApp) {
    app.post("/api/v1/orders/", &order_with("total", "99.9")).await;
    let [event] = app.bus.published::<OrderCreated>().unwrap().try_into().unwrap();
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
    let [event] = app.bus.published::<OrderCompleted>().unwrap().try_into().unwrap();
    assert_eq!(event.topic(), "order-events");
    assert_eq!(event.key(), Some(b"1".as_slice()));
    assert_eq!(event.data.order_id, 1);
    assert_eq!(event.data.user_email, "user@example.com");
}

async fn the_payloads_are_the_documented_ones(app: TestApp) {
    app.place().await;
    app.post("/api/v1/orders/1/complete", &json!({})).await;
    assert_eq!(
        serde_json::to_value(&app.bus.published::<OrderCreated>().unwrap()[0].data).unwrap(),
        json!({"order_id": 1, "user_id": 1, "user_email": "user@example.com", "total": "99.99"})
    );
    assert_eq!(
        serde_json::to_value(&app.bus.published::<OrderCompleted>().unwrap()[0].data).unwrap(),
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
    assert_eq!(app.bus.published::<OrderCreated>().unwrap().len(), 1);
    assert_eq!(app.bus.published::<OrderCompleted>().unwrap().len(), 1);
}

async fn an_order_that_cannot_be_announced_says_so(app: TestApp) {
    for fault in [Fault::Refuse("full".to_owned()), Fault::LoseConfirm] {
        app.bus.fail_next_publish(1, fault);
        let answer = app.post("/api/v1/orders/", &order()).await;
        answer.is_problem(StatusCode::SERVICE_UNAVAILABLE);
        let id = answer.body["order_id"].as_i64().unwrap();
        assert_eq!(app.get(&format!("/api/v1/orders/{id}")).await.body["status"], "pending", "it is stored");
    }
}

async fn a_completion_that_cannot_be_announced_says_so(app: TestApp) {
    app.place().await;
    app.bus.fail_next_publish(1, Fault::Refuse("full".to_owned()));
    let answer = app.post("/api/v1/orders/1/complete", &json!({})).await;
    answer.is_problem(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body["order_id"], 1);
    assert_eq!(app.get("/api/v1/orders/1").await.body["status"], "completed", "it is stored");
}
