//! An HTTP client for one service, whose answers can be checked.

use reqwest::header::{self, HeaderMap};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

/// Sends requests to one service.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// What the service answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; null if it was empty.
    pub body: Value,
}

impl Client {
    /// A client of the service at `host:port`.
    pub fn new(address: impl std::fmt::Display) -> Self {
        Self { http: reqwest::Client::new(), base: format!("http://{address}") }
    }

    /// A request to be made up and sent.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// `GET path`
    pub async fn get(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, path)).await
    }

    /// `DELETE path`
    pub async fn delete(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::DELETE, path)).await
    }

    /// `POST path` with JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::to(self.request(Method::POST, path).json(body)).await
    }

    /// `PUT path` with JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        Answer::to(self.request(Method::PUT, path).json(body)).await
    }

    /// `PATCH path` with JSON.
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        Answer::to(self.request(Method::PATCH, path).json(body)).await
    }
}

impl Answer {
    /// Sends the request; the answer's body must be empty or JSON.
    pub async fn to(request: RequestBuilder) -> Self {
        let response = crate::soon("an answer", request.send()).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = crate::soon("the body of an answer", response.text()).await.unwrap();
        let body = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| panic!("{status} and not JSON: {text}")),
        };
        Self { status, headers, body }
    }

    /// Checks that this is problem+json with this status.
    #[track_caller]
    pub fn is_problem(&self, status: StatusCode) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(self.body["status"], status.as_u16());
        assert_eq!(self.body["title"], status.canonical_reason().unwrap_or_default());
    }

    /// Checks that this is a 422 which names exactly these fields.
    #[track_caller]
    pub fn names_fields(&self, fields: &[&str]) {
        self.is_problem(StatusCode::UNPROCESSABLE_ENTITY);
        let named: Vec<_> = self.body["errors"].as_array().unwrap().iter().map(|error| &error["field"]).collect();
        assert_eq!(named, fields, "{}", self.body);
    }
}
