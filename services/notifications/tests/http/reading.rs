use serde_json::{Value, json};
use service_testing::{Answer, Method, StatusCode};

use crate::app::TestApp;

service_testing::on_each_database! { crate::app::TestApp::start:
    a_notification_is_shown_as_it_is_kept,
    sent_at_is_null_until_the_mail_is_sent,
    lists_come_in_pages_by_id,
    lists_filter_by_address,
    wrong_parameters_are_named,
    an_unknown_notification_is_not_found,
    notifications_are_only_read,
}

async fn a_notification_is_shown_as_it_is_kept(app: TestApp) {
    let kept = app.notify("user@example.com", 7).await;
    for path in ["/api/v1/notifications/1", "/api/v1/notifications/1/"] {
        let answer = app.get(path).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(
            answer.body,
            json!({
                "id": 1,
                "user_email": "user@example.com",
                "subject": "Order Received",
                "body": "Your order #7 has been received. Total: $99.99",
                "sent_at": null,
                "created_at": kept.created_at.to_string(),
            })
        );
    }
    for path in ["/api/v1/notifications", "/api/v1/notifications/"] {
        assert_eq!(app.get(path).await.body["items"][0]["id"], 1);
    }
}

async fn sent_at_is_null_until_the_mail_is_sent(app: TestApp) {
    let kept = app.notify("user@example.com", 7).await;
    assert_eq!(app.get("/api/v1/notifications/1").await.body["sent_at"], Value::Null);
    app.store.mark_sent(kept.id).await.unwrap();
    let sent = app.get("/api/v1/notifications/1").await.body["sent_at"].clone();
    assert!(sent.as_str() >= Some(kept.created_at.to_string().as_str()), "{sent}");
    app.store.mark_sent(kept.id).await.unwrap();
    assert_eq!(app.get("/api/v1/notifications/1").await.body["sent_at"], sent, "the first time counts");
}

async fn lists_come_in_pages_by_id(app: TestApp) {
    for order_id in 1..=25 {
        app.notify("user@example.com", order_id).await;
    }
    let first = app.get("/api/v1/notifications/").await.body;
    assert_eq!(first["items"].as_array().unwrap().len(), 20);
    assert_eq!([&first["total"], &first["page"], &first["page_size"]], [25, 1, 20]);
    let last = app.get("/api/v1/notifications/?page=3&page_size=10").await.body;
    let ids: Vec<_> = last["items"].as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (21..=25).collect::<Vec<_>>());
}

async fn lists_filter_by_address(app: TestApp) {
    for (order_id, user) in (1..).zip(["a+b@example.com", "c@example.com", "a+b@example.com"]) {
        app.notify(user, order_id).await;
    }
    let found = app.get("/api/v1/notifications/?user_email=a%2Bb@example.com").await.body;
    assert_eq!(found["total"], 2);
    assert_eq!([&found["items"][0]["id"], &found["items"][1]["id"]], [1, 3]);
    let none = app.get("/api/v1/notifications/?user_email=nobody@example.com").await.body;
    assert_eq!(none, json!({"items": [], "total": 0, "page": 1, "page_size": 20}));
}

async fn wrong_parameters_are_named(app: TestApp) {
    for (query, field) in [
        ("page=0", "page"),
        ("page_size=101", "page_size"),
        ("user_email=nobody", "user_email"),
        ("user_email=a%00@example.com", "user_email"),
        ("email=user@example.com", "email"),
    ] {
        app.get(&format!("/api/v1/notifications/?{query}")).await.names_fields(&[field]);
    }
    app.get("/api/v1/notifications/?page=0&page_size=0").await.names_fields(&["page", "page_size"]);
}

async fn an_unknown_notification_is_not_found(app: TestApp) {
    app.get("/api/v1/notifications/1").await.is_problem(StatusCode::NOT_FOUND);
    app.get("/api/v1/notifications/zero").await.names_fields(&["id"]);
}

async fn notifications_are_only_read(app: TestApp) {
    app.notify("user@example.com", 7).await;
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        for path in ["/api/v1/notifications/", "/api/v1/notifications/1"] {
            let answer = Answer::to(app.request(method.clone(), path)).await;
            answer.is_problem(StatusCode::METHOD_NOT_ALLOWED);
        }
    }
}
