use serde_json::json;
use service_testing::{Method, StatusCode};

use crate::app::TestApp;

service_testing::on_each_database! { crate::app::TestApp::start: a_running_service_is_alive_and_ready, metrics_are_shown}

async fn a_running_service_is_alive_and_ready(app: TestApp) {
    assert_eq!(app.get("/health/live").await.body, json!({"status": "alive"}));
    let ready = app.get("/health/ready").await;
    assert_eq!(ready.status, StatusCode::OK);
    assert_eq!(ready.body["status"], "ready");
    assert_eq!(ready.body["checks"]["database"], "ok");
}

async fn metrics_are_shown(app: TestApp) {
    let metrics = app.request(Method::GET, "/metrics").send().await.unwrap();
    assert_eq!(metrics.status(), StatusCode::OK);
    assert!(metrics.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
}
