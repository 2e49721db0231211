//! Reading the fields of a body or a query so that every wrong one is named at once.
//!
//! Fields are parsed into types that can only hold valid values: `fields.required::<EmailAddress>`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::{FieldError, Problem};

/// Fields not yet read, and what was wrong with those that were.
#[derive(Debug)]
pub struct Fields<V> {
    values: BTreeMap<String, V>,
    errors: Vec<FieldError>,
}

/// The fields of a JSON object in the body.
pub type BodyFields = Fields<Value>;

/// The parameters of the query.
pub type QueryFields = Fields<String>;

impl<V> Fields<V> {
    /// The value that `build` makes of what was read, unless something was wrong.
    ///
    /// `build` may answer `None` only where a field could not be read.
    ///
    /// # Errors
    /// 422, with each field that was missing, malformed or is unknown here.
    pub fn finish<T>(mut self, build: impl FnOnce() -> Option<T>) -> Result<T, Problem> {
        for name in std::mem::take(&mut self.values).into_keys() {
            self.refuse(name, "unknown field");
        }
        match build() {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => Err(Problem::invalid(self.errors)),
        }
    }

    /// Refuses these fields, saying why.
    pub fn refuse_any(&mut self, names: &[&str], why: &str) {
        for name in names {
            if self.values.remove(*name).is_some() {
                self.refuse(*name, why);
            }
        }
    }

    fn refuse(&mut self, field: impl Into<String>, detail: impl Display) {
        self.errors.push(FieldError { field: field.into(), detail: detail.to_string() });
    }
}

impl BodyFields {
    /// A field that must be there.
    pub fn required<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        if !self.values.contains_key(name) {
            self.refuse(name, "is required");
        }
        self.optional(name)
    }

    /// A field that may be absent, but not wrong.
    pub fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        match serde_json::from_value(self.values.remove(name)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(name, error);
                None
            }
        }
    }
}

impl QueryFields {
    /// A parameter that may be absent, but not wrong.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        match self.values.remove(name)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(name, error);
                None
            }
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for BodyFields {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::<Value>::from_request(request, state).await {
            Ok(Json(Value::Object(members))) => Ok(Self { values: members.into_iter().collect(), errors: Vec::new() }),
            Ok(_) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY).detail("the body must be a JSON object")),
            Err(rejection) => Err(refusal(&rejection)),
        }
    }
}

/// 400 for what is not JSON, 413 for too much of it, 415 for another content type.
fn refusal(rejection: &JsonRejection) -> Problem {
    let problem = Problem::new(rejection.status());
    match rejection {
        JsonRejection::JsonSyntaxError(_) => problem.detail("the body is not valid JSON"),
        JsonRejection::MissingJsonContentType(_) => {
            problem.detail("the body must be sent as `Content-Type: application/json`")
        }
        _ => problem,
    }
}

impl<S: Send + Sync> FromRequestParts<S> for QueryFields {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut fields = Self { values: BTreeMap::new(), errors: Vec::new() };
        let query = parts.uri.query().unwrap_or_default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if fields.values.insert(name.to_string(), value.into_owned()).is_some() {
                fields.refuse(name, "is given twice");
            }
        }
        Ok(fields)
    }
}
