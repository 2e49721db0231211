//! The HTTP side of a service: one application with its API, documents, health and metrics, and a
//! server that drains.

mod access;
mod app;
mod backlog;
mod documents;
mod fields;
mod groups;
mod id;
mod operations;
mod page;
mod problem;
mod requests;
mod server;
mod settings;
mod spans;

pub use access::ApiKey;
pub use app::{Api, app};
pub use fields::{BodyFields, Fields, QueryFields};
pub use id::Id;
pub use metrics_exporter_prometheus::PrometheusHandle;
pub use operations::{Operations, ReadinessCheck};
pub use page::{Page, PageOf};
pub use problem::{FieldError, Problem};
pub use server::{bind, bind_for, serve, serve_within};
pub use settings::{ADMIN_LISTEN_ADDR, API_KEY, HttpSettings, LISTEN_ADDR, Listeners};
