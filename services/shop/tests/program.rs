//! The `shop` program, as somebody meets it who has just cloned the project.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod shop;

use serde_json::{Value, json};
use service_testing::{Ended, Program, StatusCode, eventually};

use crate::shop::Shop;

/// Waits until there are so many notifications, all of them sent.
async fn sent(shop: &Shop, count: usize) -> Vec<Value> {
    eventually("notifications", async || {
        let list = shop.notifications.get("/api/v1/notifications/").await.body;
        let items = list["items"].as_array().unwrap().clone();
        let sent = items.iter().all(|item| item["sent_at"].is_string());
        (items.len() == count && sent).then_some(items)
    })
    .await
}

#[tokio::test]
async fn the_guides_flow() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().join("data");
    let shop = Shop::open(&data).await;

    let order = json!({"user_id": 1, "user_email": "user@example.com", "total": "99.99"});
    let placed = shop.orders.post("/api/v1/orders/", &order).await;
    assert_eq!(placed.status, StatusCode::CREATED);
    let notifications = sent(&shop, 1).await;
    assert_eq!(notifications[0]["user_email"], "user@example.com");
    assert_eq!(notifications[0]["subject"], "Order Received");
    assert_eq!(notifications[0]["body"], "Your order #1 has been received. Total: $99.99");

    let completed = shop.orders.post("/api/v1/orders/1/complete", &json!({})).await;
    assert_eq!(completed.body["status"], "completed");
    let notifications = sent(&shop, 2).await;
    assert_eq!(notifications[1]["subject"], "Order Completed");
    assert_eq!(notifications[1]["body"], "Your order #1 has been completed and shipped.");

    shop.closed().await;
    let shop = Shop::open(&data).await;
    assert_eq!(sent(&shop, 2).await, notifications, "kept over the restart");
    assert_eq!(shop.orders.get("/api/v1/orders/1").await.body, completed.body);
    let placed = shop.orders.post("/api/v1/orders/", &order).await;
    assert_eq!(placed.body["id"], 2);
    assert_eq!(sent(&shop, 3).await[2]["body"], "Your order #2 has been received. Total: $99.99");
    shop.closed().await;
}

#[tokio::test]
async fn a_stop_leaves_no_order_without_its_notification() {
    let data = tempfile::tempdir().unwrap();
    let shop = Shop::open(data.path()).await;
    let order = json!({"user_id": 1, "user_email": "user@example.com", "total": "99.99"});
    let placed = (0..200).map(|_| shop.orders.post("/api/v1/orders/", &order));
    for answer in futures::future::join_all(placed).await {
        assert_eq!(answer.status, StatusCode::CREATED);
    }
    shop.closed().await;

    let shop = Shop::open(data.path()).await;
    let list = shop.notifications.get("/api/v1/notifications/").await.body;
    assert_eq!(list["total"], 200);
    shop.closed().await;
}

#[tokio::test]
async fn both_services_show_health_and_their_documents() {
    let data = tempfile::tempdir().unwrap();
    let shop = Shop::open(data.path()).await;
    for (service, title) in [(&shop.orders, "Orders API"), (&shop.notifications, "Notifications API")] {
        assert_eq!(service.get("/health/ready").await.status, StatusCode::OK);
        assert_eq!(service.get("/openapi.json").await.body["info"]["title"], title);
    }
    shop.closed().await;
}

#[tokio::test]
async fn a_wrong_setting_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    for (name, value, message) in [
        ("SHOP_ORDERS_ADDR", "8001", "SHOP_ORDERS_ADDR: expected an IP address and a port"),
        ("SHOP_NOTIFICATIONS_ADDR", "nowhere", "SHOP_NOTIFICATIONS_ADDR: expected an IP address and a port"),
        ("SHOP_DATA_DIR", file, "database: cannot create"),
    ] {
        let Ended { status, log } = Program::start(env!("CARGO_BIN_EXE_shop"), &[], [(name, value)]).ended().await;
        assert!(!matches!(status.code(), Some(0 | 101)), "{log}");
        assert!(log.contains(&format!("error: {message}")), "{log}");
    }
}
