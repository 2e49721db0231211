//! The id in a path.

use std::num::NonZeroU64;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::problem::{FieldError, Problem};

/// A row's id: a positive 64-bit integer, read from the path parameter `id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(i64);

impl Id {
    /// The id as the database holds it.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let parsed = Path::<String>::from_request_parts(parts, state)
            .await
            .ok()
            .and_then(|Path(text)| text.parse::<NonZeroU64>().ok())
            .and_then(|id| i64::try_from(id.get()).ok());
        parsed.map(Self).ok_or_else(|| {
            Problem::invalid(vec![FieldError {
                field: "id".to_owned(),
                detail: format!("must be an integer from 1 to {}", i64::MAX),
            }])
        })
    }
}
