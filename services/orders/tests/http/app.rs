//! The real application on a free port, with a database of its own.

use orders::service::OrderService;
use orders::startup;
use orders::store::OrderStore;
use reqwest::{Client, Method, RequestBuilder, StatusCode, header};
use serde_json::{Value, json};
use service_kit::database::DatabaseSettings;
use service_kit::{http, telemetry};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Declares each of these tests once for every database.
macro_rules! on_each_database {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::app::TestApp::on_sqlite().await).await;
            })*
        }
    };
}
pub(crate) use on_each_database;

pub(crate) struct TestApp {
    pub(crate) client: Client,
    pub(crate) address: String,
    pub(crate) settings: DatabaseSettings,
    stop: CancellationToken,
    server: JoinHandle<()>,
    _folder: TempDir,
}

/// What the API answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: header::HeaderMap,
    pub(crate) body: Value,
}

impl TestApp {
    pub(crate) async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("orders.db").display());
        let settings = DatabaseSettings { url: url.parse().unwrap(), create: false };
        Self::start(settings, folder).await
    }

    async fn start(settings: DatabaseSettings, folder: TempDir) -> Self {
        let store = OrderStore::open(&settings).await.unwrap();
        let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let service = OrderService::new(store);
        let server = tokio::spawn(startup::serve(service, listener, telemetry::detached_metrics(), stop.clone()));
        Self { client: Client::new(), address, settings, stop, server, _folder: folder }
    }

    /// Ends the application as a signal would, and starts it anew on the same database.
    pub(crate) async fn restarted(self) -> Self {
        self.stop.cancel();
        self.server.await.unwrap();
        Self::start(self.settings, self._folder).await
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.address))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::to(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        Answer::to(self.request(Method::PUT, path).json(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        Answer::to(self.request(Method::PATCH, path).json(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::DELETE, path)).await
    }

    /// Places the guide's order and answers its id.
    pub(crate) async fn place(&self) -> i64 {
        let answer = self.post("/api/v1/orders/", &order()).await;
        assert_eq!(answer.status, StatusCode::CREATED);
        answer.body["id"].as_i64().unwrap()
    }
}

impl Answer {
    pub(crate) async fn to(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let status = response.status();
        let headers = response.headers().clone();
        let text = response.text().await.unwrap();
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
        Self { status, headers, body }
    }

    /// Checks that this is problem+json with this status.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: StatusCode) {
        assert_eq!(self.status, status, "{:?}", self.body);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(self.body["status"], status.as_u16());
        assert_eq!(self.body["title"], status.canonical_reason().unwrap());
    }

    /// Checks that this is a 422 which names exactly these fields.
    #[track_caller]
    pub(crate) fn names_fields(&self, fields: &[&str]) {
        self.is_problem(StatusCode::UNPROCESSABLE_ENTITY);
        let named: Vec<_> = self.body["errors"].as_array().unwrap().iter().map(|error| &error["field"]).collect();
        assert_eq!(named, fields, "{}", self.body);
    }
}

/// The guide's order.
pub(crate) fn order() -> Value {
    json!({"user_id": 1, "user_email": "user@example.com", "total": "99.99"})
}

/// The guide's order with one field set to something else.
pub(crate) fn order_with(field: &str, value: impl Into<Value>) -> Value {
    let mut order = order();
    order[field] = value.into();
    order
}
