//! Keeping notifications.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use notifications::notification::NotificationInput;
use notifications::store::{EventIdentity, NotificationStore};
use service_testing::TestDatabase;

service_testing::on_each_database! { crate::opened:
    the_same_event_is_kept_once,
    raw_messages_have_no_identity,
}

struct Opened {
    store: NotificationStore,
    _database: TestDatabase,
}

async fn opened(database: TestDatabase) -> Opened {
    Opened { store: NotificationStore::open(&database.settings()).await.unwrap(), _database: database }
}

fn completed(order_id: i64) -> NotificationInput {
    NotificationInput::order_completed("user@example.com".parse().unwrap(), order_id)
}

async fn the_same_event_is_kept_once(Opened { store, .. }: Opened) {
    let event = Some(EventIdentity { source: "orders", id: "1" });
    let first = store.insert(&completed(7), event).await.unwrap();
    assert_eq!(store.insert(&completed(7), event).await.unwrap(), first);
    for other in [EventIdentity { source: "orders", id: "2" }, EventIdentity { source: "returns", id: "1" }] {
        let second = store.insert(&completed(7), Some(other)).await.unwrap();
        assert_ne!(second.id, first.id);
    }
}

async fn raw_messages_have_no_identity(Opened { store, .. }: Opened) {
    let first = store.insert(&completed(7), None).await.unwrap();
    let second = store.insert(&completed(7), None).await.unwrap();
    assert_ne!(first.id, second.id);
}
