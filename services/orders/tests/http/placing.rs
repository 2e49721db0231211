use serde_json::json;
use service_testing::StatusCode;

use crate::app::{TestApp, order, order_with};

service_testing::on_each_database! { crate::app::TestApp::start:
    a_new_order_is_pending,
    it_is_stored_as_it_was_answered,
    both_spellings_of_the_path_work,
    totals_keep_two_decimals,
    wrong_fields_are_named,
    several_wrong_fields_are_named_at_once,
    clients_do_not_set_what_the_service_manages,
    orders_are_placed_at_the_same_time,
}

async fn a_new_order_is_pending(app: TestApp) {
    let answer = app.post("/api/v1/orders/", &order()).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.headers["location"], "/api/v1/orders/1");
    let body = &answer.body;
    assert_eq!(body["id"], 1);
    assert_eq!(body["user_id"], 1);
    assert_eq!(body["user_email"], "user@example.com");
    assert_eq!(body["total"], "99.99");
    assert_eq!(body["status"], "pending");
    assert_eq!(body["created_at"], body["updated_at"]);
    let created: jiff::Timestamp = body["created_at"].as_str().unwrap().parse().unwrap();
    assert!(created.duration_until(jiff::Timestamp::now()).abs() < jiff::SignedDuration::from_mins(1));
}

async fn it_is_stored_as_it_was_answered(app: TestApp) {
    let placed = app.post("/api/v1/orders/", &order()).await;
    let read = app.get("/api/v1/orders/1").await;
    assert_eq!(read.status, StatusCode::OK);
    assert_eq!(read.body, placed.body);
}

async fn both_spellings_of_the_path_work(app: TestApp) {
    assert_eq!(app.post("/api/v1/orders", &order()).await.status, StatusCode::CREATED);
    assert_eq!(app.post("/api/v1/orders/", &order()).await.status, StatusCode::CREATED);
    for path in ["/api/v1/orders", "/api/v1/orders/"] {
        assert_eq!(app.get(path).await.body["total"], 2);
    }
    for path in ["/api/v1/orders/1", "/api/v1/orders/1/"] {
        assert_eq!(app.get(path).await.body["id"], 1);
        assert_eq!(app.put(path, &order()).await.status, StatusCode::OK);
        assert_eq!(app.patch(path, &json!({})).await.status, StatusCode::OK);
    }
    for (id, ending) in [(1, ""), (2, "/")] {
        let path = format!("/api/v1/orders/{id}/complete{ending}");
        assert_eq!(app.post(&path, &json!({})).await.body["status"], "completed");
        assert_eq!(app.delete(&format!("/api/v1/orders/{id}{ending}")).await.status, StatusCode::NO_CONTENT);
    }
}

async fn totals_keep_two_decimals(app: TestApp) {
    for (given, shown) in [("10", "10.00"), ("0.5", "0.50"), ("0.01", "0.01"), ("99999999.99", "99999999.99")] {
        let placed = app.post("/api/v1/orders/", &order_with("total", given)).await;
        assert_eq!(placed.body["total"], shown);
        let read = app.get(placed.headers["location"].to_str().unwrap()).await;
        assert_eq!(read.body["total"], shown);
    }
}

async fn wrong_fields_are_named(app: TestApp) {
    let wrong = [
        ("total", json!(99.99)),
        ("total", json!(99)),
        ("total", json!("0")),
        ("total", json!("-1.00")),
        ("total", json!("1.999")),
        ("total", json!("100000000.00")),
        ("total", json!("much")),
        ("total", json!(null)),
        ("user_email", json!("user")),
        ("user_email", json!("user@")),
        ("user_email", json!("User <user@example.com>")),
        ("user_email", json!("user@example.com\u{0}")),
        ("user_email", json!("")),
        ("user_email", json!(7)),
        ("user_id", json!(0)),
        ("user_id", json!(-1)),
        ("user_id", json!(9_223_372_036_854_775_808_u64)),
        ("user_id", json!(1.5)),
        ("user_id", json!("1")),
        ("surprise", json!(1)),
    ];
    for (field, value) in wrong {
        app.post("/api/v1/orders/", &order_with(field, value)).await.names_fields(&[field]);
    }
    for field in ["user_id", "user_email", "total"] {
        let mut incomplete = order();
        incomplete.as_object_mut().unwrap().remove(field);
        app.post("/api/v1/orders/", &incomplete).await.names_fields(&[field]);
    }
    assert_eq!(app.get("/api/v1/orders/").await.body["total"], 0, "a refused order was stored");
}

async fn several_wrong_fields_are_named_at_once(app: TestApp) {
    let body = json!({"user_id": 0, "user_email": "user", "total": 1});
    app.post("/api/v1/orders/", &body).await.names_fields(&["user_id", "user_email", "total"]);
    app.post("/api/v1/orders/", &json!({})).await.names_fields(&["user_id", "user_email", "total"]);
}

async fn clients_do_not_set_what_the_service_manages(app: TestApp) {
    for (field, value) in [("status", json!("completed")), ("id", json!(7)), ("created_at", json!("2026-01-01"))] {
        app.post("/api/v1/orders/", &order_with(field, value)).await.names_fields(&[field]);
    }
}

async fn orders_are_placed_at_the_same_time(app: TestApp) {
    let body = order();
    let answers = futures::future::join_all((0..64).map(|_| app.post("/api/v1/orders/", &body))).await;
    let mut ids: Vec<_> = answers.iter().map(|answer| answer.body["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=64).collect::<Vec<_>>());
}
