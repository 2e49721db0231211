use serde_json::json;
use service_testing::StatusCode;

use crate::app::{TestApp, order, order_with};

service_testing::on_each_database! { crate::app::TestApp::start:
    putting_replaces_all_fields,
    putting_needs_all_fields,
    patching_changes_what_is_given,
    the_status_is_not_set_this_way,
    wrong_fields_are_named_and_change_nothing,
    an_unknown_order_is_not_found,
}

async fn putting_replaces_all_fields(app: TestApp) {
    app.place().await;
    let body = json!({"user_id": 2, "user_email": "other@example.com", "total": "1.50"});
    let answer = app.put("/api/v1/orders/1", &body).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body["user_id"], 2);
    assert_eq!(answer.body["user_email"], "other@example.com");
    assert_eq!(answer.body["total"], "1.50");
    assert_eq!(answer.body["status"], "pending");
    assert_eq!(app.get("/api/v1/orders/1").await.body, answer.body);
}

async fn putting_needs_all_fields(app: TestApp) {
    app.place().await;
    app.put("/api/v1/orders/1", &json!({"total": "1.50"})).await.names_fields(&["user_id", "user_email"]);
}

async fn patching_changes_what_is_given(app: TestApp) {
    app.place().await;
    for (field, value) in [("user_id", json!(7)), ("user_email", json!("new@example.com")), ("total", json!("5.00"))] {
        let before = app.get("/api/v1/orders/1").await.body;
        let answer = app.patch("/api/v1/orders/1", &json!({field: value})).await;
        assert_eq!(answer.status, StatusCode::OK);
        let mut expected = before.clone();
        expected[field] = value;
        expected["updated_at"] = answer.body["updated_at"].clone();
        assert_eq!(answer.body, expected);
        assert!(expected["updated_at"].as_str() > before["updated_at"].as_str());
        assert_eq!(app.get("/api/v1/orders/1").await.body, expected);
    }
}

async fn the_status_is_not_set_this_way(app: TestApp) {
    app.place().await;
    for status in ["completed", "pending", "shipped"] {
        app.put("/api/v1/orders/1", &order_with("status", status)).await.names_fields(&["status"]);
        app.patch("/api/v1/orders/1", &json!({"status": status})).await.names_fields(&["status"]);
    }
    assert_eq!(app.get("/api/v1/orders/1").await.body["status"], "pending");
}

async fn wrong_fields_are_named_and_change_nothing(app: TestApp) {
    app.place().await;
    let before = app.get("/api/v1/orders/1").await.body;
    for (field, value) in [
        ("total", json!(1)),
        ("total", json!(null)),
        ("user_email", json!("nobody")),
        ("user_id", json!(0)),
        ("id", json!(2)),
        ("colour", json!("red")),
    ] {
        app.patch("/api/v1/orders/1", &json!({field: value})).await.names_fields(&[field]);
        app.put("/api/v1/orders/1", &order_with(field, value)).await.names_fields(&[field]);
    }
    assert_eq!(app.get("/api/v1/orders/1").await.body, before);
}

async fn an_unknown_order_is_not_found(app: TestApp) {
    app.put("/api/v1/orders/1", &order()).await.is_problem(StatusCode::NOT_FOUND);
    app.patch("/api/v1/orders/1", &json!({})).await.is_problem(StatusCode::NOT_FOUND);
}
