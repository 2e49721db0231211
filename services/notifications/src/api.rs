//! The HTTP API: shows what was notified.

use axum::Json;
use axum::extract::State;
use service_kit::EmailAddress;
use service_kit::http::{Api, Id, Page, PageOf, Problem, QueryFields};
use utoipa_axum::routes;

use crate::notification::Notification;
use crate::store::NotificationStore;

/// All routes and their documentation.
pub fn api(store: NotificationStore) -> Api<()> {
    Api::new("Notifications API", env!("CARGO_PKG_VERSION"))
        .routes(routes!(list))
        .routes(routes!(get))
        .with_state(store)
}

/// List notifications
///
/// By ascending id.
#[utoipa::path(
    get,
    path = "/api/v1/notifications/",
    tag = "Notifications",
    params(
        ("page" = Option<u32>, Query, minimum = 1, description = "Which page, from 1"),
        ("page_size" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Notifications on a page, 20 by default"),
        ("user_email" = Option<String>, Query, description = "Only notifications for this address"),
    ),
    responses(
        (status = 200, description = "A page of notifications", body = PageOf<Notification>),
        (status = 422, description = "A parameter cannot be used", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list(
    State(store): State<NotificationStore>,
    mut query: QueryFields,
) -> Result<Json<PageOf<Notification>>, Problem> {
    let page = Page::from_query(&mut query);
    let user_email = query.parsed::<EmailAddress>("user_email");
    query.finish(|| Some(()))?;
    Ok(Json(store.list(page, user_email.as_ref()).await?))
}

/// Get a notification
#[utoipa::path(
    get,
    path = "/api/v1/notifications/{id}",
    tag = "Notifications",
    params(("id" = i64, Path, minimum = 1)),
    responses(
        (status = 200, description = "The notification", body = Notification),
        (status = 404, description = "No such notification", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Not an id", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn get(State(store): State<NotificationStore>, id: Id) -> Result<Json<Notification>, Problem> {
    let notification = store.get(id.get()).await?;
    notification.map(Json).ok_or_else(|| Problem::not_found("notification", id.get()))
}
