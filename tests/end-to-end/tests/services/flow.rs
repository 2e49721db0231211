//! What is tried on each broker.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use service_testing::{
    Client, Customers, MailServer, StatusCode, each_is_notified_once, eventually, every_item, until_notified,
};
use test_brokers::{Broker, Postgres};

use crate::operating::{a_bare_message_is_notified, a_refused_e_mail_is_replayed};
use crate::services::Services;

const CUSTOMERS: usize = 4;
/// How many orders are completed between two misfortunes.
const ORDERS: usize = 25;

pub(crate) async fn nothing_is_lost_or_done_twice(postgres: &Postgres, broker: &Broker) {
    let mut services = Services::start(postgres, broker).await;
    // The first e-mail meets a mail server that is busy: it is tried again.
    services.mail.be_busy(2);
    as_the_guide_says(&services.orders(), &services.notifications).await;

    let mut customers = Customers::start(CUSTOMERS, &services.orders.subscribe());
    for number in 0..kills() {
        customers.complete_more(ORDERS).await;
        services.kill_orders().await;
        customers.complete_more(ORDERS).await;
        services.kill_consumer(number).await;
    }
    // One that was given to the tests is not ours to stop.
    if broker.nodes().is_ok() {
        broker.stop().await.unwrap();
        let back = Instant::now() + outage();
        while Instant::now() < back {
            // Each is answered as if nothing were the matter.
            customers.complete_more(ORDERS).await;
        }
        broker.start().await.unwrap();
    }
    customers.complete_more(ORDERS).await;
    customers.leave().await;

    until_notified(&services.orders(), &services.notifications).await;
    services.until_published().await;
    let orders = each_is_notified_once(&services.orders(), &services.notifications).await;
    assert!(orders > kills() * 2 * ORDERS, "{orders} orders");
    let mails = each_is_mailed(&services.notifications, &services.mail).await;
    println!("{}: {orders} orders, {mails} e-mails, each program killed {} times", broker.kind(), kills());
    a_refused_e_mail_is_replayed(&services).await;
    a_bare_message_is_notified(&services).await;
    services.stop().await;
}

/// How often each program is killed: `END_TO_END_KILLS`.
fn kills() -> usize {
    times("END_TO_END_KILLS", 2)
}

/// How long the broker is away: `END_TO_END_OUTAGE_SECONDS`.
fn outage() -> Duration {
    Duration::from_secs(times("END_TO_END_OUTAGE_SECONDS", 10) as u64)
}

/// The number that a variable holds, or this one.
pub(crate) fn times(variable: &str, usually: usize) -> usize {
    let set = std::env::var(variable).ok();
    set.map_or(usually, |number| number.parse().unwrap_or_else(|_| panic!("{variable} is {number:?}, not a number")))
}

/// The manual test of the guide.
async fn as_the_guide_says(orders: &Client, notifications: &Client) {
    let order = json!({"user_id": 1, "user_email": "user@example.com", "total": "99.99"});
    let placed = orders.post("/api/v1/orders/", &order).await;
    assert_eq!(placed.status, StatusCode::CREATED, "{}", placed.body);
    let id = &placed.body["id"];
    let [received] = sent(notifications).await;
    assert_eq!(received["user_email"], "user@example.com");
    assert_eq!(received["subject"], "Order Received");
    assert_eq!(received["body"], format!("Your order #{id} has been received. Total: $99.99"));

    let completed = orders.post(&format!("/api/v1/orders/{id}/complete"), &json!({})).await;
    assert_eq!(completed.body["status"], "completed", "{}", completed.body);
    let [again, shipped] = sent(notifications).await;
    assert_eq!(again, received);
    assert_eq!(shipped["subject"], "Order Completed");
    assert_eq!(shipped["body"], format!("Your order #{id} has been completed and shipped."));
}

/// Checks that each notification was sent as it stands, and nothing else; answers how many e-mails that took. More than one
/// of a notification has the same Message-ID.
pub(crate) async fn each_is_mailed(notifications: &Client, server: &MailServer) -> usize {
    let mails = server.mails();
    let mailed: BTreeSet<[String; 4]> = mails
        .iter()
        .map(|mail| {
            let header = |name| mail.header(name).unwrap_or_default().to_owned();
            [header("Message-ID"), mail.recipient.clone(), header("Subject"), mail.lines.last().unwrap().clone()]
        })
        .collect();
    let notified: BTreeSet<[String; 4]> = every_item(notifications, "/api/v1/notifications/")
        .await
        .iter()
        .map(|notification| {
            let field = |name: &str| notification[name].as_str().unwrap().to_owned();
            let id = format!("<notification-{}@example.com>", notification["id"]);
            [id, field("user_email"), field("subject"), field("body")]
        })
        .collect();
    assert_eq!(mailed, notified);
    mails.len()
}

/// Waits until there are so many notifications, all of them sent.
async fn sent<const COUNT: usize>(notifications: &Client) -> [Value; COUNT] {
    eventually("notifications", async || {
        let all = every_item(notifications, "/api/v1/notifications/").await;
        let sent = all.iter().all(|notification| notification["sent_at"].is_string());
        if sent { all.try_into().ok() } else { None }
    })
    .await
}
