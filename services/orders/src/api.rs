//! The HTTP API: reads requests, asks the [service](crate::service), answers.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use messaging::ErrorKind;
use service_kit::http::{Api, BodyFields, Id, Page, PageOf, Problem, QueryFields};
use utoipa_axum::routes;

use crate::order::{Order, OrderChanges, OrderInput, Status};
use crate::service::{OrderError, OrderService};

/// All routes and their documentation.
pub fn api(service: OrderService) -> Api<()> {
    Api::new("Orders API", env!("CARGO_PKG_VERSION"))
        .routes(routes!(list, create))
        .routes(routes!(get, replace, change, delete))
        .routes(routes!(complete))
        .with_state(service)
}

/// List orders
///
/// By ascending id.
#[utoipa::path(
    get,
    path = "/api/v1/orders/",
    tag = "Orders",
    params(
        ("page" = Option<u32>, Query, minimum = 1, description = "Which page, from 1"),
        ("page_size" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Orders on a page, 20 by default"),
        ("status" = Option<Status>, Query, description = "Only orders with this status"),
    ),
    responses(
        (status = 200, description = "A page of orders", body = PageOf<Order>),
        (status = 422, description = "A parameter cannot be used", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list(State(service): State<OrderService>, mut query: QueryFields) -> Result<Json<PageOf<Order>>, Problem> {
    let page = Page::from_query(&mut query);
    let status = query.parsed::<Status>("status");
    query.finish(|| Some(()))?;
    Ok(Json(service.store().list(page, status).await?))
}

/// Place an order
///
/// `orders.created` is published once the order is stored, also if the broker is away meanwhile.
#[utoipa::path(
    post,
    path = "/api/v1/orders/",
    tag = "Orders",
    request_body = OrderInput,
    responses(
        (status = 201, description = "The order, pending", body = Order),
        (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not sent as application/json", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field cannot be used", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is not available; the detail says if the order may be stored all the same", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn create(State(service): State<OrderService>, body: BodyFields) -> Result<Response, Problem> {
    let order = service.create(input(body)?).await?;
    let location = format!("/api/v1/orders/{}", order.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(order)).into_response())
}

/// Get an order
#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}",
    tag = "Orders",
    params(("id" = i64, Path, minimum = 1)),
    responses(
        (status = 200, description = "The order", body = Order),
        (status = 404, description = "No such order", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Not an id", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn get(State(service): State<OrderService>, id: Id) -> Result<Json<Order>, Problem> {
    found(service.store().get(id.get()).await?, id)
}

/// Replace an order
///
/// Its status stays: `POST …/complete` changes that.
#[utoipa::path(
    put,
    path = "/api/v1/orders/{id}",
    tag = "Orders",
    params(("id" = i64, Path, minimum = 1)),
    request_body = OrderInput,
    responses(
        (status = 200, description = "The order as it is now", body = Order),
        (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such order", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field cannot be used", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn replace(State(service): State<OrderService>, id: Id, body: BodyFields) -> Result<Json<Order>, Problem> {
    let changes = input(body)?.into();
    found(service.store().update(id.get(), &changes).await?, id)
}

/// Change an order
///
/// Its status stays: `POST …/complete` changes that.
#[utoipa::path(
    patch,
    path = "/api/v1/orders/{id}",
    tag = "Orders",
    params(("id" = i64, Path, minimum = 1)),
    request_body = OrderChanges,
    responses(
        (status = 200, description = "The order as it is now", body = Order),
        (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such order", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field cannot be used", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn change(State(service): State<OrderService>, id: Id, body: BodyFields) -> Result<Json<Order>, Problem> {
    let changes = changes(body)?;
    found(service.store().update(id.get(), &changes).await?, id)
}

/// Delete an order
#[utoipa::path(
    delete,
    path = "/api/v1/orders/{id}",
    tag = "Orders",
    params(("id" = i64, Path, minimum = 1)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such order", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Not an id", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn delete(State(service): State<OrderService>, id: Id) -> Result<StatusCode, Problem> {
    if service.store().delete(id.get()).await? { Ok(StatusCode::NO_CONTENT) } else { Err(not_found(id)) }
}

/// Complete an order
///
/// `orders.completed` is published once that is stored.
#[utoipa::path(
    post,
    path = "/api/v1/orders/{id}/complete",
    tag = "Orders",
    params(("id" = i64, Path, minimum = 1)),
    responses(
        (status = 200, description = "The order, completed", body = Order),
        (status = 404, description = "No such order", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It was completed before", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Not an id", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is not available; the detail says if it may be completed all the same", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn complete(State(service): State<OrderService>, id: Id) -> Result<Json<Order>, Problem> {
    Ok(Json(service.complete(id.get()).await?))
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::NotFound(id) => Self::not_found("order", id),
            OrderError::AlreadyCompleted(id) => {
                Self::new(StatusCode::CONFLICT).detail(error.to_string()).member("order_id", id)
            }
            OrderError::Database(error) => error.into(),
            OrderError::Transaction(error) => transaction(&error),
        }
    }
}

/// What a transaction that failed means to whoever asked for it.
fn transaction(error: &messaging::Error) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "a transaction failed");
    match error.kind() {
        ErrorKind::Unknown => Problem::new(StatusCode::SERVICE_UNAVAILABLE)
            .detail("the database did not say whether this was stored: look before trying again"),
        _ if error.is_transient() => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE).detail("the database is not available")
        }
        _ => Problem::new(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn input(mut body: BodyFields) -> Result<OrderInput, Problem> {
    refuse_managed(&mut body);
    let user_id = body.required("user_id");
    let user_email = body.required("user_email");
    let total = body.required("total");
    body.finish(|| Some(OrderInput { user_id: user_id?, user_email: user_email?, total: total? }))
}

fn changes(mut body: BodyFields) -> Result<OrderChanges, Problem> {
    refuse_managed(&mut body);
    let changes = OrderChanges {
        user_id: body.optional("user_id"),
        user_email: body.optional("user_email"),
        total: body.optional("total"),
    };
    body.finish(|| Some(changes))
}

/// Fields that clients see but do not set.
fn refuse_managed(body: &mut BodyFields) {
    body.refuse_any(&["id", "created_at", "updated_at"], "is read-only");
    body.refuse_any(&["status"], "is read-only: POST /api/v1/orders/{id}/complete completes an order");
}

fn found(order: Option<Order>, id: Id) -> Result<Json<Order>, Problem> {
    order.map(Json).ok_or_else(|| not_found(id))
}

fn not_found(id: Id) -> Problem {
    Problem::not_found("order", id.get())
}
