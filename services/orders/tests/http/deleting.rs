use serde_json::{Value, json};
use service_testing::StatusCode;

use crate::app::{TestApp, order};

service_testing::on_each_database! { crate::app::TestApp::start: a_deleted_order_is_gone, its_id_is_not_used_again}

async fn a_deleted_order_is_gone(app: TestApp) {
    app.place().await;
    let answer = app.delete("/api/v1/orders/1").await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(answer.body, Value::Null);
    app.get("/api/v1/orders/1").await.is_problem(StatusCode::NOT_FOUND);
    app.put("/api/v1/orders/1", &order()).await.is_problem(StatusCode::NOT_FOUND);
    app.delete("/api/v1/orders/1").await.is_problem(StatusCode::NOT_FOUND);
    app.post("/api/v1/orders/1/complete", &json!({})).await.is_problem(StatusCode::NOT_FOUND);
}

async fn its_id_is_not_used_again(app: TestApp) {
    let id = app.place().await;
    app.delete(&format!("/api/v1/orders/{id}")).await;
    assert_eq!(app.place().await, id + 1);
    app.delete(&format!("/api/v1/orders/{}", id + 1)).await;
    let app = app.restarted().await;
    assert_eq!(app.place().await, id + 2);
}
