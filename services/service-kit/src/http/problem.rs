//! Errors as clients see them: `application/problem+json` (RFC 9457).

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::database::DatabaseError;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What went wrong with a request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status says it all.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    /// The status in words.
    #[schema(example = "Unprocessable Entity")]
    title: String,
    /// The HTTP status code.
    #[schema(example = 422)]
    status: u16,
    /// This occurrence, for a human.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// What is wrong with which field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// What else a program may want to know.
    #[serde(flatten)]
    #[schema(ignore)]
    members: Map<String, Value>,
}

/// A field of the body, the query or the path that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The field's name.
    #[schema(example = "total")]
    pub field: String,
    /// Why it cannot be used.
    #[schema(example = "must be greater than 0")]
    pub detail: String,
}

impl Problem {
    /// A problem with nothing to add to its status.
    pub fn new(status: StatusCode) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: None,
            errors: Vec::new(),
            members: Map::new(),
        }
    }

    /// 404 for a thing of this kind.
    pub fn not_found(what: &str, id: i64) -> Self {
        Self::new(StatusCode::NOT_FOUND).detail(format!("there is no {what} {id}"))
    }

    /// 422 for fields that cannot be used.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let names: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        let detail = format!("invalid: {}", names.join(", "));
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY).detail(detail) }
    }

    /// Says what happened.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a member for programs.
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match serde_json::to_vec(&self) {
            Ok(body) => (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response(),
            Err(_) => status.into_response(),
        }
    }
}

/// 503 when the database was away, 500 when the statement was at fault. The cause goes to the log,
/// not to the client.
impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        if error.is_unavailable() {
            tracing::warn!(%error, "database unavailable");
            Self::new(StatusCode::SERVICE_UNAVAILABLE).detail("the database is not available")
        } else {
            tracing::error!(%error, "statement failed");
            Self::new(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// Turns the bare errors of routing and of layers (404, 405, 408, 413, …) into problems.
pub(super) async fn explain(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || is_json(&response) {
        return response;
    }
    // Headers such as `Allow` and `Connection` keep their say.
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let (problem, body) = Problem::new(status).into_response().into_parts();
    parts.headers.extend(problem.headers);
    Response::from_parts(parts, Body::new(body))
}

fn is_json(response: &Response) -> bool {
    response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("json"))
}
