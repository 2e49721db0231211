//! Many customers at once, and one order whose handler keeps failing: nobody else waits for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use messaging::{BoxFuture, Delivery, FailurePolicy, HandlerError, HandlerService, Router};
use messaging_memory::MemoryBroker;
use notifications::mailer::LogMailer;
use notifications::store::NotificationStore;
use orders::service::OrderService;
use orders::store::OrderStore;
use serde_json::{Value, json};
use service_kit::outbox::{self, Relay, RelaySettings};
use service_kit::{http, telemetry};
use service_testing::{Client, StatusCode, TestDatabase, eventually};
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

const ORDERS: u32 = 2_000;
const CONNECTIONS: usize = 32;
const SLOTS: usize = 50;
/// The order whose handler fails until it is let go.
const STUBBORN: &str = "777";

/// Fails every delivery of the stubborn order while it is closed.
#[derive(Clone)]
struct Gate {
    open: Arc<AtomicBool>,
    refused: Arc<AtomicU32>,
}

#[derive(Clone)]
struct Gated {
    gate: Gate,
    inner: HandlerService,
}

impl Layer<HandlerService> for Gate {
    type Service = Gated;

    fn layer(&self, inner: HandlerService) -> Gated {
        Gated { gate: self.clone(), inner }
    }
}

impl Service<Delivery> for Gated {
    type Response = ();
    type Error = HandlerError;
    type Future = BoxFuture<Result<(), HandlerError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, delivery: Delivery) -> Self::Future {
        let message = &delivery.message;
        let stubborn = message.topic == *"order-events" && message.key.as_deref() == Some(STUBBORN.as_bytes());
        if stubborn && !self.gate.open.load(Ordering::Acquire) {
            self.gate.refused.fetch_add(1, Ordering::Relaxed);
            return Box::pin(async { Err(HandlerError::transient("not yet")) });
        }
        Box::pin(self.inner.call(delivery))
    }
}

async fn total(notifications: &Client) -> i64 {
    notifications.get("/api/v1/notifications/?page_size=1").await.body["total"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_has_its_notifications_in_order_and_one_that_fails_holds_up_nobody() {
    let (orders_database, notifications_database) = (TestDatabase::sqlite().await, TestDatabase::sqlite().await);
    let bus = MemoryBroker::new();
    let messaging = bus.messaging();
    let stop = CancellationToken::new();
    let _stop_at_the_end = stop.clone().drop_guard();

    let store = NotificationStore::open(&notifications_database.settings()).await.unwrap();
    let gate = Gate { open: Arc::default(), refused: Arc::default() };
    let mut patient = FailurePolicy::default().max_attempts(u32::MAX);
    patient.backoff = Duration::from_millis(100);
    patient.max_backoff = Duration::from_millis(100);
    let notifications_outbox = outbox::open(store.database(), &messaging).await.unwrap();
    let routers = notifications::startup::consumers(&store, &notifications_outbox, Arc::new(LogMailer));
    let routers =
        routers.into_iter().map(|router| router.concurrency(SLOTS).failure_policy(patient.clone()).layer(gate.clone()));
    let _running = messaging.run(routers.collect::<Vec<Router>>()).await.unwrap();

    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let orders_address = listener.local_addr().unwrap();
    let orders_store = OrderStore::open(&orders_database.settings()).await.unwrap();
    let orders_outbox = outbox::open(orders_store.database(), &messaging).await.unwrap();
    let _relays = [
        Relay::start(&orders_outbox, RelaySettings::default()).await.unwrap(),
        Relay::start(&notifications_outbox, RelaySettings::default()).await.unwrap(),
    ];
    let service = OrderService::new(orders_store, orders_outbox);
    tokio::spawn(orders::startup::serve(service, listener, telemetry::detached_metrics(), stop.clone()));
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let notifications = Client::new(listener.local_addr().unwrap());
    tokio::spawn(notifications::startup::serve(store, listener, telemetry::detached_metrics(), stop.clone()));

    // Each connection completes its order as soon as it is told that there is one.
    let left = Arc::new(AtomicU32::new(ORDERS));
    let customers = (0..CONNECTIONS).map(|customer| {
        let (client, left) = (Client::new(orders_address), left.clone());
        let order = json!({"user_id": customer + 1, "user_email": "user@example.com", "total": "99.99"});
        tokio::spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let placed = client.post("/api/v1/orders/", &order).await;
                assert_eq!(placed.status, StatusCode::CREATED);
                let path = format!("/api/v1/orders/{}/complete", placed.body["id"]);
                assert_eq!(client.post(&path, &json!({})).await.status, StatusCode::OK);
            }
        })
    });
    for customer in futures::future::join_all(customers).await {
        customer.unwrap();
    }

    let others = i64::from(ORDERS - 1) * 2;
    eventually("the notifications of all other orders", async || (total(&notifications).await >= others).then_some(()))
        .await;
    eventually("another attempt", async || (gate.refused.load(Ordering::Relaxed) > 1).then_some(())).await;
    assert_eq!(total(&notifications).await, others, "the stubborn order has none yet");

    gate.open.store(true, Ordering::Release);
    bus.settled().await.unwrap();
    let mut by_order: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for page in 1..=(ORDERS * 2).div_ceil(100) {
        let list = notifications.get(&format!("/api/v1/notifications/?page_size=100&page={page}")).await.body;
        for item in list["items"].as_array().unwrap() {
            assert!(item["sent_at"].is_string(), "{item}");
            by_order.entry(order_of(item)).or_default().push(item["subject"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(by_order.len(), ORDERS as usize);
    for (order, subjects) in by_order {
        assert_eq!(subjects, ["Order Received", "Order Completed"], "of order {order}");
    }
    assert_eq!(bus.dead_letters("notifications-service").len(), 0);
}

/// The order that a notification is about.
fn order_of(notification: &Value) -> String {
    let (_, rest) = notification["body"].as_str().unwrap().split_once('#').unwrap();
    rest.split_whitespace().next().unwrap().to_owned()
}
