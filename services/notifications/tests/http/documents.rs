use serde_json::json;

use crate::app::TestApp;

service_testing::on_each_database! { crate::app::TestApp::start: every_route_is_documented }

async fn every_route_is_documented(app: TestApp) {
    let document = app.get("/openapi.json").await.body;
    assert_eq!(document["info"]["title"], "Notifications API");
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.keys().collect::<Vec<_>>(), ["/api/v1/notifications/", "/api/v1/notifications/{id}"]);
    for path in paths.values() {
        assert_eq!(path["get"]["tags"], json!(["Notifications"]));
    }
}
