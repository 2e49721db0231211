//! The real application on a free port, with a database of its own.

use std::ops::Deref;

use messaging_memory::MemoryBroker;
use notifications::notification::{Notification, NotificationInput};
use notifications::startup;
use notifications::store::NotificationStore;
use service_kit::outbox::{self, Outbox};
use service_kit::{http, telemetry};
use service_testing::{Client, TestDatabase};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) struct TestApp {
    client: Client,
    pub(crate) store: NotificationStore,
    outbox: Outbox,
    _database: TestDatabase,
    _stop: DropGuard,
}

impl Deref for TestApp {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl TestApp {
    pub(crate) async fn start(database: TestDatabase) -> Self {
        let store = NotificationStore::open(&database.settings()).await.unwrap();
        let outbox = outbox::open(store.database(), &MemoryBroker::new().messaging()).await.unwrap();
        let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let client = Client::new(listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(startup::serve(store.clone(), listener, telemetry::detached_metrics(), stop.clone()));
        Self { client, store, outbox, _database: database, _stop: stop.drop_guard() }
    }

    /// Keeps a notification of an order for this address.
    pub(crate) async fn notify(&self, user_email: &str, order_id: i64) -> Notification {
        let total = "99.99".parse().unwrap();
        let input = NotificationInput::order_received(user_email.parse().unwrap(), order_id, total);
        let mut tx = self.outbox.begin().await.unwrap();
        let notification = self.store.insert(&mut tx, &input).await.unwrap();
        tx.commit().await.unwrap();
        notification
    }
}
