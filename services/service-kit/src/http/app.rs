//! One application: a service's API with its documents, health, metrics, limits and logs.

use std::fmt;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::MethodRouter;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutLayer};
use utoipa::OpenApi;
use utoipa::openapi::{InfoBuilder, Paths, RefOr, Schema};
use utoipa_axum::router::UtoipaMethodRouter;

use super::operations::{self, Operations};
use super::{ApiKey, access, documents, groups, problem, requests, spans};

/// Orders and notifications are a few hundred bytes.
const MAX_BODY: usize = 64 * 1024;

/// The longest pause of a client in the middle of its body.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// The longest that a request may take. It exceeds a statement's deadline and a publish's together,
/// so that those are reported for what they are.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// A service's routes together with their documentation.
pub struct Api<S> {
    router: Router<S>,
    document: utoipa::openapi::OpenApi,
}

impl<S> fmt::Debug for Api<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Api").field(&self.document.info.title).finish()
    }
}

impl<S: Clone + Send + Sync + 'static> Api<S> {
    /// An API without routes under this title.
    pub fn new(title: &str, version: &str) -> Self {
        Self { router: Router::new(), document: empty_document(title, version) }
    }

    /// Adds what utoipa's `routes!` collected. Each path works with and without a trailing slash,
    /// and is documented as it was written.
    pub fn routes(mut self, (schemas, paths, methods): UtoipaMethodRouter<S>) -> Self {
        for path in paths.paths.keys() {
            self.router = with_both_endings(self.router, path, &methods);
        }
        document(&mut self.document, schemas, paths);
        self
    }

    /// Gives the handlers their state.
    pub fn with_state(self, state: S) -> Api<()> {
        Api { router: self.router.with_state(state), document: self.document }
    }
}

fn empty_document(title: &str, version: &str) -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    struct Empty;

    let mut document = Empty::openapi();
    document.info = InfoBuilder::new().title(title).version(version).build();
    document
}

fn document(document: &mut utoipa::openapi::OpenApi, schemas: Vec<(String, RefOr<Schema>)>, paths: Paths) {
    document.paths.paths.extend(paths.paths);
    document.components.get_or_insert_default().schemas.extend(schemas);
}

fn with_both_endings<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    path: &str,
    methods: &MethodRouter<S>,
) -> Router<S> {
    let bare = path.trim_end_matches('/');
    router.route(bare, methods.clone()).route(&format!("{bare}/"), methods.clone())
}

/// The whole application of a process: `api` if it has one, `/openapi.json` and a page of it at
/// `/docs`, `/health/live`, `/health/ready` and `/metrics`.
pub fn app(api: Option<Api<()>>, operations: Operations) -> Router {
    whole(api, operations, None)
}

/// What everybody may see where operations have a port of their own: the API and its documents, and whether the process
/// is alive and ready, without saying why not.
pub(super) fn public(api: Option<Api<()>>, operations: Operations, key: Option<ApiKey>) -> Router {
    limited(with_api(operations::verdicts(operations), api, key))
}

/// All of it on one port, the API behind a key if there is one.
pub(super) fn whole(api: Option<Api<()>>, operations: Operations, key: Option<ApiKey>) -> Router {
    let operations = operations::health(operations.clone()).merge(operations::details(operations));
    limited(with_api(operations, api, key))
}

/// What operators see on a port of its own, and what they may do there.
pub(super) fn admin(operations: Operations) -> Router {
    let groups = operations.consumers.clone().map(groups::routes).unwrap_or_default();
    limited(operations::health(operations.clone()).merge(operations::details(operations)).merge(groups))
}

fn with_api(operations: Router, api: Option<Api<()>>, key: Option<ApiKey>) -> Router {
    let Some(Api { router: mut api, document }) = api else { return operations };
    if let Some(key) = key {
        api = api.route_layer(from_fn_with_state(key, access::check));
    }
    operations.merge(api).merge(documents::routes(&document))
}

/// With the limits, logs, spans and counts that every request has.
fn limited(router: Router) -> Router {
    router.layer(
        ServiceBuilder::new()
            .layer(spans::layer())
            .layer(from_fn(requests::measure))
            .layer(from_fn(problem::explain))
            .layer(CatchPanicLayer::new())
            .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, REQUEST_DEADLINE))
            .layer(DefaultBodyLimit::disable())
            .layer(RequestBodyLimitLayer::new(MAX_BODY))
            .layer(RequestBodyTimeoutLayer::new(BODY_DEADLINE)),
    )
}
