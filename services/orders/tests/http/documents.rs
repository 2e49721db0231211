use serde_json::json;
use service_testing::{Method, StatusCode};

use crate::app::TestApp;

service_testing::on_each_database! { crate::app::TestApp::start: every_route_is_documented, the_document_has_a_page}

async fn every_route_is_documented(app: TestApp) {
    let answer = app.get("/openapi.json").await;
    assert_eq!(answer.status, StatusCode::OK);
    let document = answer.body;
    assert_eq!(document["info"]["title"], "Orders API");
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert_eq!(operation["tags"], json!(["Orders"]));
            operations.push(format!("{method} {path}"));
        }
    }
    operations.sort();
    assert_eq!(
        operations,
        [
            "delete /api/v1/orders/{id}",
            "get /api/v1/orders/",
            "get /api/v1/orders/{id}",
            "patch /api/v1/orders/{id}",
            "post /api/v1/orders/",
            "post /api/v1/orders/{id}/complete",
            "put /api/v1/orders/{id}",
        ]
    );
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["Order"]["properties"]["total"]["type"], "string");
    assert_eq!(schemas["OrderInput"]["required"], json!(["user_id", "user_email", "total"]));
}

async fn the_document_has_a_page(app: TestApp) {
    let page = app.request(Method::GET, "/docs/").send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    assert!(page.text().await.unwrap().contains("swagger-ui"));
    let configuration = app.request(Method::GET, "/docs/swagger-initializer.js").send().await.unwrap();
    assert!(configuration.text().await.unwrap().contains("/openapi.json"));
}
