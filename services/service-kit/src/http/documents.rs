//! The API's document as JSON, and a page to read and try it.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::Config;

const DOCUMENT: &str = "/openapi.json";

/// `/openapi.json`, and Swagger UI at `/docs`.
///
/// Served by hand: the page's own router would serialise the document in this crate instead of in its own, which costs
/// seconds of every first build.
pub(super) fn routes(document: &OpenApi) -> Router {
    let json = document.to_json().unwrap_or_else(|error| {
        tracing::error!(%error, "the API's document cannot be shown");
        "{}".to_owned()
    });
    let json: Arc<str> = json.into();
    let config = Arc::new(Config::from(DOCUMENT));
    let file = {
        let config = config.clone();
        move |Path(path): Path<String>| async move { page_file(&path, config) }
    };
    Router::new()
        .route(DOCUMENT, get(|| async move { ([(header::CONTENT_TYPE, "application/json")], json.to_string()) }))
        .route("/docs", get(|| async { Redirect::to("/docs/") }))
        .route("/docs/", get(|| async move { page_file("", config) }))
        .route("/docs/{*path}", get(file))
}

fn page_file(path: &str, config: Arc<Config<'static>>) -> Response {
    match utoipa_swagger_ui::serve(path, config) {
        Ok(Some(file)) => ([(header::CONTENT_TYPE, file.content_type)], file.bytes.into_owned()).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => {
            tracing::error!(%error, "the page of the API's document cannot be shown");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
