//! Keeping notifications.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use messaging_memory::MemoryBroker;
use notifications::notification::NotificationInput;
use notifications::store::NotificationStore;
use service_kit::outbox::{self, Outbox};
use service_testing::TestDatabase;

service_testing::on_each_database! { crate::opened:
    what_is_committed_is_kept,
    what_is_rolled_back_is_not,
    a_sent_notification_keeps_its_time,
}

struct Opened {
    store: NotificationStore,
    outbox: Outbox,
    _database: TestDatabase,
}

async fn opened(database: TestDatabase) -> Opened {
    let store = NotificationStore::open(&database.settings()).await.unwrap();
    let outbox = outbox::open(store.database(), &MemoryBroker::new().messaging()).await.unwrap();
    Opened { store, outbox, _database: database }
}

fn completed(order_id: i64) -> NotificationInput {
    NotificationInput::order_completed("user@example.com".parse().unwrap(), order_id)
}

async fn what_is_committed_is_kept(Opened { store, outbox, _database }: Opened) {
    let mut tx = outbox.begin().await.unwrap();
    let notification = store.insert(&mut tx, &completed(7)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.get(notification.id).await.unwrap(), Some(notification));
}

async fn what_is_rolled_back_is_not(Opened { store, outbox, _database }: Opened) {
    let mut tx = outbox.begin().await.unwrap();
    let notification = store.insert(&mut tx, &completed(7)).await.unwrap();
    drop(tx);
    assert_eq!(store.get(notification.id).await.unwrap(), None);
}

async fn a_sent_notification_keeps_its_time(Opened { store, outbox, _database }: Opened) {
    let mut tx = outbox.begin().await.unwrap();
    let id = store.insert(&mut tx, &completed(7)).await.unwrap().id;
    tx.commit().await.unwrap();
    store.mark_sent(id).await.unwrap();
    let sent = store.get(id).await.unwrap();
    assert!(sent.as_ref().unwrap().sent_at.is_some());
    store.mark_sent(id).await.unwrap();
    assert_eq!(store.get(id).await.unwrap(), sent);
}
