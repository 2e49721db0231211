use service_testing::{Answer, Method, StatusCode};

use crate::app::{TestApp, order};

service_testing::on_each_database! { crate::app::TestApp::start:
    what_is_not_json_is_a_bad_request,
    what_is_no_object_is_unprocessable,
    another_content_type_is_unsupported,
    too_much_is_too_large,
    other_methods_are_not_allowed,
    other_paths_are_not_found,
}

async fn what_is_not_json_is_a_bad_request(app: TestApp) {
    app.place().await;
    for body in ["", "{", "{'total': 1}", "\u{feff}{}", "{\"total\": 1e999}", "{} {}", "\"\\ud800\""] {
        for (method, path) in [(Method::POST, ""), (Method::PUT, "1"), (Method::PATCH, "1")] {
            let request = app.request(method, &format!("/api/v1/orders/{path}"));
            let request = request.header("content-type", "application/json").body(body);
            Answer::to(request).await.is_problem(StatusCode::BAD_REQUEST);
        }
    }
    let deep = "[".repeat(50_000);
    let request = app.request(Method::POST, "/api/v1/orders/").header("content-type", "application/json").body(deep);
    Answer::to(request).await.is_problem(StatusCode::BAD_REQUEST);
    let bytes = vec![b'"', 0xff, b'"'];
    let request = app.request(Method::POST, "/api/v1/orders/").header("content-type", "application/json").body(bytes);
    Answer::to(request).await.is_problem(StatusCode::BAD_REQUEST);
}

async fn what_is_no_object_is_unprocessable(app: TestApp) {
    for body in ["null", "[]", "7", "\"order\""] {
        let request = app.request(Method::POST, "/api/v1/orders/");
        let request = request.header("content-type", "application/json").body(body);
        Answer::to(request).await.is_problem(StatusCode::UNPROCESSABLE_ENTITY);
    }
}

async fn another_content_type_is_unsupported(app: TestApp) {
    let text = order().to_string();
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/xml", "nonsense"] {
        let request = app.request(Method::POST, "/api/v1/orders/");
        let request = request.header("content-type", content_type).body(text.clone());
        Answer::to(request).await.is_problem(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let request = app.request(Method::POST, "/api/v1/orders/").body(text.clone());
    Answer::to(request).await.is_problem(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let request = app.request(Method::POST, "/api/v1/orders/");
    let request = request.header("content-type", "application/json; charset=utf-8").body(text);
    assert_eq!(Answer::to(request).await.status, StatusCode::CREATED);
}

async fn too_much_is_too_large(app: TestApp) {
    let mut order = order();
    order["note"] = "x".repeat(64 * 1024).into();
    app.post("/api/v1/orders/", &order).await.is_problem(StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(app.get("/api/v1/orders/").await.body["total"], 0);
}

async fn other_methods_are_not_allowed(app: TestApp) {
    for (method, path, allowed) in [
        (Method::PUT, "/api/v1/orders/", "GET,HEAD,POST"),
        (Method::DELETE, "/api/v1/orders", "GET,HEAD,POST"),
        (Method::POST, "/api/v1/orders/1", "GET,HEAD,PUT,PATCH,DELETE"),
        (Method::GET, "/api/v1/orders/1/complete", "POST"),
    ] {
        let answer = Answer::to(app.request(method, path)).await;
        answer.is_problem(StatusCode::METHOD_NOT_ALLOWED);
        let sorted = |methods: &str| {
            let mut methods: Vec<_> = methods.split(',').map(str::to_owned).collect();
            methods.sort();
            methods
        };
        assert_eq!(sorted(answer.headers["allow"].to_str().unwrap()), sorted(allowed), "{path}");
    }
}

async fn other_paths_are_not_found(app: TestApp) {
    for path in ["/", "/api/v1/", "/api/v1/orders/1/refund", "/api/v2/orders/", "//"] {
        app.get(path).await.is_problem(StatusCode::NOT_FOUND);
    }
}
