//! What operators do with a running system, the same on each broker.

use serde_json::json;
use service_testing::{Client, StatusCode, eventually};

use crate::command::messaging;
use crate::services::Services;

/// Whom the mail server does not know at first.
const LOST: &str = "lost@example.com";

const LETTERS: [&str; 2] = ["notifications-mailer", "notification-emails"];

/// An e-mail that the mail server refuses is a dead letter; it is found, looked at, and sent once when it is replayed.
pub(crate) async fn a_refused_e_mail_is_replayed(services: &Services) {
    let broker = services.broker.as_str();
    let letters = async |action: &str, more: &[&str]| {
        messaging(broker, &[&["dead-letters", action], &LETTERS[..], more].concat()).await
    };
    services.mail.refuse(LOST);
    let order = json!({"user_id": 1, "user_email": LOST, "total": "1.00"});
    let placed = services.orders().post("/api/v1/orders/", &order).await;
    assert_eq!(placed.status, StatusCode::CREATED, "{}", placed.body);
    let id = eventually("a dead letter", async || {
        let [letter] = letters("list", &[]).await.try_into().ok()?;
        letter["id"].as_str().map(str::to_owned)
    })
    .await;
    let [shown] = letters("show", &["--id", &id]).await.try_into().unwrap();
    assert!(shown["error"].as_str().unwrap().contains("no such user"), "{shown}");
    assert_eq!(notified(&services.notifications, LOST).await.1, 0, "{shown}");

    services.mail.refuse_nobody();
    letters("replay", &["--id", &id, "--yes"]).await;
    until_sent(services, LOST).await;
    eventually("no dead letters", async || letters("list", &[]).await.is_empty().then_some(())).await;
    let mails = services.mail.mails().into_iter().filter(|mail| mail.recipient == LOST);
    assert_eq!(mails.count(), 1);
}

/// JSON without an envelope, from a program that knows none.
pub(crate) async fn a_bare_message_is_notified(services: &Services) {
    const BARE: &str = "bare@example.com";
    let payload = json!({"order_id": 7, "user_email": BARE}).to_string();
    messaging(&services.broker, &["publish", "orders.created", &payload, "--header", "message-id=order-7"]).await;
    until_sent(services, BARE).await;
    let mails: Vec<_> = services.mail.mails().into_iter().filter(|mail| mail.recipient == BARE).collect();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].lines.last().unwrap(), "Your order #7 received.");
}

/// Waits until whoever has this address has one notification, and that is sent.
async fn until_sent(services: &Services, address: &str) {
    eventually("a notification that is sent", async || {
        (notified(&services.notifications, address).await == (1, 1)).then_some(())
    })
    .await;
}

/// How many notifications there are for an address, and how many of them are sent.
async fn notified(notifications: &Client, address: &str) -> (usize, usize) {
    let list = notifications.get(&format!("/api/v1/notifications/?user_email={address}")).await.body;
    let items = list["items"].as_array().unwrap();
    (items.len(), items.iter().filter(|item| item["sent_at"].is_string()).count())
}
