//! The real application on a free port, with a database of its own.

use std::ops::Deref;

use messaging_memory::MemoryBroker;
use orders::service::OrderService;
use orders::startup;
use orders::store::OrderStore;
use serde_json::{Value, json};
use service_kit::{http, telemetry};
use service_testing::{Client, StatusCode, TestDatabase};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) struct TestApp {
    client: Client,
    /// What the application announces.
    pub(crate) bus: MemoryBroker,
    database: TestDatabase,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Deref for TestApp {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl TestApp {
    pub(crate) async fn start(database: TestDatabase) -> Self {
        let bus = MemoryBroker::new();
        let store = OrderStore::open(&database.settings()).await.unwrap();
        let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let client = Client::new(listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let service = OrderService::new(store, bus.messaging());
        let server = tokio::spawn(startup::serve(service, listener, telemetry::detached_metrics(), stop.clone()));
        Self { client, bus, database, stop, server }
    }

    /// Ends the application as a signal would, and starts it anew on the same database.
    pub(crate) async fn restarted(self) -> Self {
        self.stop.cancel();
        self.server.await.unwrap();
        Self::start(self.database).await
    }

    /// Places the guide's order and answers its id.
    pub(crate) async fn place(&self) -> i64 {
        let answer = self.post("/api/v1/orders/", &order()).await;
        assert_eq!(answer.status, StatusCode::CREATED);
        answer.body["id"].as_i64().unwrap()
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
