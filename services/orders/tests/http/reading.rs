use serde_json::json;
use service_testing::StatusCode;

use crate::app::{TestApp, order};

service_testing::on_each_database! { crate::app::TestApp::start:
    an_empty_list_is_a_page,
    lists_come_in_pages_by_id,
    lists_filter_by_status,
    wrong_parameters_are_named,
    an_unknown_order_is_not_found,
    what_is_no_id_is_refused,
    orders_survive_a_restart,
}

async fn an_empty_list_is_a_page(app: TestApp) {
    let answer = app.get("/api/v1/orders/").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body, json!({"items": [], "total": 0, "page": 1, "page_size": 20}));
}

async fn lists_come_in_pages_by_id(app: TestApp) {
    for _ in 0..25 {
        app.place().await;
    }
    let ids = |body: &serde_json::Value| -> Vec<i64> {
        body["items"].as_array().unwrap().iter().map(|order| order["id"].as_i64().unwrap()).collect()
    };
    let first = app.get("/api/v1/orders/").await.body;
    assert_eq!(ids(&first), (1..=20).collect::<Vec<_>>());
    let second = app.get("/api/v1/orders/?page=2").await.body;
    assert_eq!(ids(&second), (21..=25).collect::<Vec<_>>());
    let small = app.get("/api/v1/orders/?page=3&page_size=4").await.body;
    assert_eq!(ids(&small), [9, 10, 11, 12]);
    assert_eq!(small["total"], 25);
    assert_eq!(small["page"], 3);
    assert_eq!(small["page_size"], 4);
    let beyond = app.get("/api/v1/orders/?page=4294967295&page_size=100").await;
    assert_eq!(beyond.status, StatusCode::OK);
    assert_eq!(ids(&beyond.body), [0; 0]);
}

async fn lists_filter_by_status(app: TestApp) {
    for _ in 0..3 {
        app.place().await;
    }
    app.post("/api/v1/orders/2/complete", &json!({})).await;
    let completed = app.get("/api/v1/orders/?status=completed").await.body;
    assert_eq!(completed["total"], 1);
    assert_eq!(completed["items"][0]["id"], 2);
    let pending = app.get("/api/v1/orders/?status=pending&page_size=1&page=2").await.body;
    assert_eq!(pending["total"], 2);
    assert_eq!(pending["items"][0]["id"], 3);
}

async fn wrong_parameters_are_named(app: TestApp) {
    for (query, field) in [
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=one", "page"),
        ("page=", "page"),
        ("page=4294967296", "page"),
        ("page_size=0", "page_size"),
        ("page_size=101", "page_size"),
        ("page=1&page=2", "page"),
        ("status=shipped", "status"),
        ("status=", "status"),
        ("pagesize=5", "pagesize"),
    ] {
        app.get(&format!("/api/v1/orders/?{query}")).await.names_fields(&[field]);
    }
}

async fn an_unknown_order_is_not_found(app: TestApp) {
    app.get("/api/v1/orders/1").await.is_problem(StatusCode::NOT_FOUND);
    app.get(&format!("/api/v1/orders/{}", i64::MAX)).await.is_problem(StatusCode::NOT_FOUND);
}

async fn what_is_no_id_is_refused(app: TestApp) {
    for id in ["0", "-1", "one", "1.5", "9223372036854775808", "99999999999999999999999", "%00", "1%2F2"] {
        app.get(&format!("/api/v1/orders/{id}")).await.names_fields(&["id"]);
        app.put(&format!("/api/v1/orders/{id}"), &order()).await.names_fields(&["id"]);
        app.patch(&format!("/api/v1/orders/{id}"), &json!({})).await.names_fields(&["id"]);
        app.delete(&format!("/api/v1/orders/{id}")).await.names_fields(&["id"]);
        app.post(&format!("/api/v1/orders/{id}/complete"), &json!({})).await.names_fields(&["id"]);
    }
}

async fn orders_survive_a_restart(app: TestApp) {
    app.place().await;
    let before = app.get("/api/v1/orders/").await.body;
    let app = app.restarted().await;
    assert_eq!(app.get("/api/v1/orders/").await.body, before);
    assert_eq!(app.place().await, 2);
}
