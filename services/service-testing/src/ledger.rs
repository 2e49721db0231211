//! Orders against notifications: none lost, none twice, in order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Client, PAUSE};

/// How long no further notification may come, the time included in which a broker notices that a consumer died.
const PATIENCE: Duration = Duration::from_secs(90);

/// How many items a page may have.
const PAGE: usize = 100;

/// All items of a list.
pub async fn every_item(client: &Client, path: &str) -> Vec<Value> {
    let mut items = Vec::new();
    for page in 1.. {
        let list = client.get(&format!("{path}?page_size={PAGE}&page={page}")).await.body;
        let more = list["items"].as_array().unwrap();
        items.extend_from_slice(more);
        if more.len() < PAGE {
            break;
        }
    }
    items
}

/// Waits until there are as many notifications as these orders call for, all of them sent.
pub async fn until_notified(orders: &Client, notifications: &Client) {
    let expected: usize = every_item(orders, "/api/v1/orders/").await.iter().map(|order| subjects(order).len()).sum();
    let total = async || notifications.get("/api/v1/notifications/?page_size=1").await.body["total"].as_u64().unwrap();
    if let Err(total) = reaches(expected, async || total().await as usize).await {
        panic!("{total} of {expected} notifications; missing: {:?}", missing(orders, notifications).await);
    }
    let sent = async || {
        let all = every_item(notifications, "/api/v1/notifications/").await;
        all.iter().filter(|notification| notification["sent_at"].is_string()).count()
    };
    if let Err(sent) = reaches(expected, sent).await {
        panic!("the e-mail of {sent} of {expected} notifications was sent");
    }
}

/// Looks again and again until there are so many; answers how many there are where they stay that many for long.
async fn reaches(goal: usize, mut count: impl AsyncFnMut() -> usize) -> Result<(), usize> {
    let (mut before, mut since) = (0, Instant::now());
    loop {
        let now = count().await;
        if now >= goal {
            return Ok(());
        }
        if now > before {
            (before, since) = (now, Instant::now());
        } else if since.elapsed() >= PATIENCE {
            return Err(now);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Checks that each order has its notifications, each once and in order, and that there are no others; answers how many
/// orders there are.
pub async fn each_is_notified_once(orders: &Client, notifications: &Client) -> usize {
    let all = every_item(notifications, "/api/v1/notifications/").await;
    let mut notified = by_order(&all);
    let orders = every_item(orders, "/api/v1/orders/").await;
    for order in &orders {
        let id = order["id"].as_i64().unwrap();
        let found = notified.remove(&id).unwrap_or_default();
        assert_eq!(
            found,
            subjects(order),
            "of order {id}, {order}: {:#?}",
            all.iter().filter(|notification| order_of(notification) == id).collect::<Vec<_>>()
        );
    }
    assert!(notified.is_empty(), "notifications of orders that there are not: {notified:?}");
    orders.len()
}

/// The first orders that were notified otherwise than they call for, with their notifications.
async fn missing(orders: &Client, notifications: &Client) -> Vec<(i64, Vec<String>)> {
    let mut notified = by_order(&every_item(notifications, "/api/v1/notifications/").await);
    let orders = every_item(orders, "/api/v1/orders/").await;
    let orders = orders.iter().map(|order| (order["id"].as_i64().unwrap(), subjects(order)));
    let found = orders.map(|(id, expected)| (id, expected, notified.remove(&id).unwrap_or_default()));
    found.filter(|(_, expected, found)| found != expected).map(|(id, _, found)| (id, found)).take(20).collect()
}

/// The subjects of the notifications of each order, the oldest first.
fn by_order(notifications: &[Value]) -> BTreeMap<i64, Vec<String>> {
    let mut notified: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for notification in notifications {
        let subject = notification["subject"].as_str().unwrap().to_owned();
        notified.entry(order_of(notification)).or_default().push(subject);
    }
    notified
}

/// What is notified of an order.
fn subjects(order: &Value) -> &'static [&'static str] {
    match order["status"].as_str() {
        Some("completed") => &["Order Received", "Order Completed"],
        _ => &["Order Received"],
    }
}

/// The order that a notification is about.
fn order_of(notification: &Value) -> i64 {
    let (_, rest) = notification["body"].as_str().unwrap().split_once('#').unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}
