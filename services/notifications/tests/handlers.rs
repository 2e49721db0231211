//! The handlers on the in-memory bus: no broker to install, no sleep.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use messaging::{Event, IntoRouter, Message, Router, Running};
use messaging_memory::{DeadLettered, MemoryBroker};
use notifications::events::{EmailRequested, OrderCompleted, OrderCreated};
use notifications::mailer::{MailError, Mailer};
use notifications::notification::Notification;
use notifications::startup::consumers;
use notifications::store::NotificationStore;
use serde_json::json;
use service_kit::outbox::{self, Relay, RelaySettings};
use service_testing::TestDatabase;

/// Remembers what it sent, and fails as it is told to.
#[derive(Debug, Default)]
struct FakeMailer {
    sent: Mutex<Vec<Notification>>,
    attempts: AtomicU32,
    /// How many of the next attempts fail.
    busy: AtomicU32,
    refuses: bool,
}

#[async_trait]
impl Mailer for FakeMailer {
    async fn send(&self, notification: &Notification) -> Result<(), MailError> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        if self.refuses {
            return Err(MailError::Refused("no such user".into()));
        }
        if self.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(MailError::Unavailable("try later".into()));
        }
        self.sent.lock().unwrap().push(notification.clone());
        Ok(())
    }
}

/// The service's handlers on a bus of their own.
struct Service {
    bus: MemoryBroker,
    store: NotificationStore,
    mailer: Arc<FakeMailer>,
    _database: TestDatabase,
    _running: Running,
    _relay: Relay,
}

impl Service {
    async fn with(mailer: FakeMailer) -> Self {
        let database = TestDatabase::sqlite().await;
        let store = NotificationStore::open(&database.settings()).await.unwrap();
        let bus = MemoryBroker::new();
        let messaging = bus.messaging();
        let mailer = Arc::new(mailer);
        // Failing handlers run again at once instead of after a pause.
        let outbox = outbox::open(store.database(), &messaging).await.unwrap();
        let routers = consumers(&store, &outbox, mailer.clone());
        let routers = routers.into_iter().map(|router| router.failure_policy(messaging::FailurePolicy::immediate()));
        let running = messaging.run(routers.collect::<Vec<Router>>()).await.unwrap();
        let relay = Relay::start(&outbox, RelaySettings::default()).await.unwrap();
        Self { bus, store, mailer, _database: database, _running: running, _relay: relay }
    }

    async fn new() -> Self {
        Self::with(FakeMailer::default()).await
    }

    async fn notifications(&self) -> Vec<Notification> {
        let mut notifications = Vec::new();
        for id in 1.. {
            match self.store.get(id).await.unwrap() {
                Some(notification) => notifications.push(notification),
                None => break,
            }
        }
        notifications
    }

    fn dead_letters(&self, group: &str) -> Vec<DeadLettered> {
        self.bus.dead_letters(group)
    }
}

fn created(order_id: i64) -> OrderCreated {
    OrderCreated { order_id, user_email: "user@example.com".parse().unwrap(), total: "99.90".parse().unwrap() }
}

fn completed(order_id: i64) -> OrderCompleted {
    OrderCompleted { order_id, user_email: "user@example.com".parse().unwrap() }
}

#[tokio::test]
async fn a_new_order_is_notified() {
    let service = Service::new().await;
    service.bus.publish(&created(7)).await.unwrap();
    service.bus.settled().await.unwrap();

    let [notification] = service.notifications().await.try_into().unwrap();
    assert_eq!(notification.user_email, "user@example.com");
    assert_eq!(notification.subject, "Order Received");
    assert_eq!(notification.body, "Your order #7 has been received. Total: $99.90");
    assert!(notification.sent_at.is_some());
    assert_eq!(service.mailer.sent.lock().unwrap()[0].body, notification.body);
}

#[tokio::test]
async fn a_completed_order_is_notified_after_it_was_received() {
    let service = Service::new().await;
    service.bus.publish(&created(7)).await.unwrap();
    service.bus.publish(&completed(7)).await.unwrap();
    service.bus.settled().await.unwrap();

    let [received, completed] = service.notifications().await.try_into().unwrap();
    assert_eq!(received.subject, "Order Received");
    assert_eq!(completed.subject, "Order Completed");
    assert_eq!(completed.body, "Your order #7 has been completed and shipped.");
    assert!(completed.sent_at.is_some());
}

#[tokio::test]
async fn the_payload_of_the_orders_service_is_understood() {
    let service = Service::new().await;
    let payload = json!({"order_id": 7, "user_id": 1, "user_email": "user@example.com", "total": "99.99"});
    service.bus.messaging().publish_event(Event::named("orders.created", "order-events", payload)).await.unwrap();
    let payload = json!({"order_id": 7, "user_email": "user@example.com", "status": "completed"});
    service.bus.messaging().publish_event(Event::named("orders.completed", "order-events", payload)).await.unwrap();
    service.bus.settled().await.unwrap();
    assert_eq!(service.notifications().await.len(), 2);
}

#[tokio::test]
async fn an_event_that_comes_twice_is_notified_once() {
    let service = Service::new().await;
    let event = Event::new(created(7));
    for _ in 0..2 {
        service.bus.messaging().publish_event(event.clone()).await.unwrap();
    }
    service.bus.settled().await.unwrap();
    assert_eq!(service.notifications().await.len(), 1);
    assert_eq!(service.mailer.sent.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_bare_message_is_kept() {
    let service = Service::new().await;
    let payload = json!({"order_id": 7, "user_email": "user@example.com"}).to_string();
    service.bus.messaging().publish_raw(Message::new("orders.created", payload)).await.unwrap();
    service.bus.settled().await.unwrap();

    let [notification] = service.notifications().await.try_into().unwrap();
    assert_eq!(notification.subject, "Order Received");
    assert_eq!(notification.body, "Your order #7 received.");
    assert!(notification.sent_at.is_some());
}

#[tokio::test]
async fn e_mail_is_an_event_of_its_own_caused_by_the_orders() {
    let service = Service::new().await;
    service.bus.publish(&created(7)).await.unwrap();
    service.bus.settled().await.unwrap();

    let orders = service.bus.published::<OrderCreated>().unwrap();
    let requests = service.bus.published::<EmailRequested>().unwrap();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].topic(), "notification-emails");
    assert_eq!(requests[0].key(), Some(b"1".as_slice()));
    assert_eq!(requests[0].causation_id(), Some(orders[0].id().unwrap().to_string().as_str()));
}

#[tokio::test]
async fn a_busy_mail_server_is_tried_again() {
    let service = Service::with(FakeMailer { busy: AtomicU32::new(2), ..FakeMailer::default() }).await;
    service.bus.publish(&created(7)).await.unwrap();
    service.bus.settled().await.unwrap();
    assert_eq!(service.mailer.attempts.load(Ordering::Relaxed), 3);
    assert!(service.notifications().await[0].sent_at.is_some());
    assert_eq!(service.dead_letters("notifications-mailer").len(), 0);
}

#[tokio::test]
async fn e_mail_that_cannot_be_sent_is_a_dead_letter_and_not_marked_as_sent() {
    for (mailer, attempts) in [
        (FakeMailer { refuses: true, ..FakeMailer::default() }, 1),
        (FakeMailer { busy: AtomicU32::new(u32::MAX), ..FakeMailer::default() }, 5),
    ] {
        let service = Service::with(mailer).await;
        service.bus.publish(&created(7)).await.unwrap();
        service.bus.settled().await.unwrap();
        assert_eq!(service.mailer.attempts.load(Ordering::Relaxed), attempts);
        assert_eq!(service.dead_letters("notifications-mailer").len(), 1);
        assert_eq!(service.dead_letters("notifications-service").len(), 0, "the notification itself is kept");
        assert_eq!(service.notifications().await[0].sent_at, None);
    }
}

#[tokio::test]
async fn an_event_that_makes_no_sense_is_a_dead_letter() {
    let service = Service::new().await;
    for payload in [
        json!({"order_id": 7, "user_email": "nobody", "total": "1.00"}),
        json!({"order_id": 7, "total": "1.00"}),
        json!("order 7"),
    ] {
        let event = Event::named("orders.created", "order-events", payload);
        service.bus.messaging().publish_event(event).await.unwrap();
    }
    service.bus.publish(&created(8)).await.unwrap();
    service.bus.settled().await.unwrap();
    assert_eq!(service.dead_letters("notifications-service").len(), 3);
    assert_eq!(service.notifications().await.len(), 1, "the others go on");
}

#[tokio::test]
async fn other_events_of_the_topic_are_passed_over() {
    let service = Service::new().await;
    service.bus.messaging().publish_event(Event::named("orders.returned", "order-events", json!({}))).await.unwrap();
    service.bus.settled().await.unwrap();
    assert_eq!(service.notifications().await, []);
    assert_eq!(service.dead_letters("notifications-service").len(), 0);
}

#[tokio::test]
async fn handlers_are_found_by_configuration_alone() {
    let database = TestDatabase::sqlite().await;
    let store = NotificationStore::open(&database.settings()).await.unwrap();
    let messaging = MemoryBroker::new().messaging();
    let outbox = outbox::open(store.database(), &messaging).await.unwrap();
    let routers = consumers(&store, &outbox, Arc::new(FakeMailer::default()));
    messaging.check(routers.into_iter().map(IntoRouter::into_router)).unwrap();
}
