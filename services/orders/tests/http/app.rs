//! The real application on a free port, with a database of its own.

use std::ops::Deref;

use messaging::{Event, EventData, Json, Router, Running};
use messaging_memory::MemoryBroker;
use orders::service::OrderService;
use orders::startup;
use orders::store::OrderStore;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use service_kit::outbox::{self, Relay, RelaySettings};
use service_kit::{http, telemetry};
use service_testing::{Client, StatusCode, TestDatabase};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) struct TestApp {
    client: Client,
    /// What the application announces.
    pub(crate) bus: MemoryBroker,
    /// Publishes what the application records, if it was asked for.
    _relay: Option<Relay>,
    /// Whom the bus publishes for.
    _listening: Running,
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
    /// Records events and publishes none, as with the broker away.
    pub(crate) async fn start(database: TestDatabase) -> Self {
        Self::with(database, false).await
    }

    /// Publishes what it records.
    pub(crate) async fn start_with_relay(database: TestDatabase) -> Self {
        Self::with(database, true).await
    }

    async fn with(database: TestDatabase, relayed: bool) -> Self {
        let bus = MemoryBroker::new();
        let listening = Router::new("listener").on_message("order-events", async |_: Json<Value>| {});
        let listening = bus.messaging().run_one(listening).await.unwrap();
        let store = OrderStore::open(&database.settings()).await.unwrap();
        let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let client = Client::new(listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let outbox = outbox::open(store.database(), &bus.messaging()).await.unwrap();
        let relay = if relayed { Some(Relay::start(&outbox, RelaySettings::default()).await.unwrap()) } else { None };
        let service = OrderService::new(store, outbox);
        let server = tokio::spawn(startup::serve(service, listener, telemetry::detached_metrics(), stop.clone()));
        Self { client, bus, _relay: relay, _listening: listening, database, stop, server }
    }

    /// Ends the application as a signal would, and starts it anew on the same database.
    pub(crate) async fn restarted(self) -> Self {
        self.stop.cancel();
        self.server.await.unwrap();
        Self::start(self.database).await
    }

    /// The same, with the broker back.
    pub(crate) async fn restarted_with_relay(self) -> Self {
        self.stop.cancel();
        self.server.await.unwrap();
        Self::start_with_relay(self.database).await
    }

    /// What was announced, once all of it is.
    pub(crate) async fn announced<T: EventData + DeserializeOwned>(&self) -> Vec<Event<T>> {
        self.bus.settled().await.unwrap();
        self.bus.published().unwrap()
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
