//! The groups of a consumer, as operators see them and hold them up: on their own port alone.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::problem::Problem;
use crate::broker::Consumers;

/// `/groups`, `/groups/{group}/pause` and `/groups/{group}/resume`
pub(super) fn routes(consumers: Consumers) -> Router {
    Router::new()
        .route("/groups", get(list))
        .route("/groups/{group}/pause", post(pause))
        .route("/groups/{group}/resume", post(resume))
        .with_state(consumers)
}

async fn list(State(consumers): State<Consumers>) -> Json<Value> {
    let groups = consumers.groups().await;
    let groups: Vec<_> = groups.iter().map(|(group, paused)| described(group, *paused)).collect();
    Json(json!({ "groups": groups }))
}

async fn pause(State(consumers): State<Consumers>, Path(group): Path<String>) -> Result<Json<Value>, Problem> {
    set_paused(&consumers, &group, true).await
}

async fn resume(State(consumers): State<Consumers>, Path(group): Path<String>) -> Result<Json<Value>, Problem> {
    set_paused(&consumers, &group, false).await
}

async fn set_paused(consumers: &Consumers, group: &str, paused: bool) -> Result<Json<Value>, Problem> {
    if consumers.set_paused(group, paused).await {
        Ok(Json(described(group, paused)))
    } else {
        Err(Problem::new(StatusCode::NOT_FOUND).detail(format!("the group {group:?} does not run in this process")))
    }
}

fn described(group: &str, paused: bool) -> Value {
    json!({ "group": group, "paused": paused })
}
