use serde_json::json;
use service_testing::{Answer, Method, StatusCode};

use crate::app::TestApp;

service_testing::on_each_database! { crate::app::TestApp::start:
    completing_answers_the_completed_order,
    a_body_is_not_needed,
    completing_twice_is_a_conflict,
    of_many_at_once_one_completes,
    an_unknown_order_is_not_found,
}

async fn completing_answers_the_completed_order(app: TestApp) {
    app.place().await;
    let answer = app.post("/api/v1/orders/1/complete", &json!({})).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body["id"], 1);
    assert_eq!(answer.body["status"], "completed");
    assert_eq!(app.get("/api/v1/orders/1").await.body, answer.body);
}

async fn a_body_is_not_needed(app: TestApp) {
    app.place().await;
    let answer = Answer::to(app.request(Method::POST, "/api/v1/orders/1/complete")).await;
    assert_eq!(answer.status, StatusCode::OK);
}

async fn completing_twice_is_a_conflict(app: TestApp) {
    app.place().await;
    let completed = app.post("/api/v1/orders/1/complete", &json!({})).await.body;
    let again = app.post("/api/v1/orders/1/complete", &json!({})).await;
    again.is_problem(StatusCode::CONFLICT);
    assert_eq!(again.body["order_id"], 1);
    assert_eq!(app.get("/api/v1/orders/1").await.body, completed);
}

async fn of_many_at_once_one_completes(app: TestApp) {
    app.place().await;
    let body = json!({});
    let answers = futures::future::join_all((0..16).map(|_| app.post("/api/v1/orders/1/complete", &body))).await;
    let with = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(with(StatusCode::OK), 1);
    assert_eq!(with(StatusCode::CONFLICT), 15);
}

async fn an_unknown_order_is_not_found(app: TestApp) {
    app.post("/api/v1/orders/1/complete", &json!({})).await.is_problem(StatusCode::NOT_FOUND);
}
