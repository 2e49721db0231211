//! What happens when an order does something: a notification is kept, and its e-mail sent.
//!
//! Events may be delivered more than once. Handlers with `tx` take effect once all the same: the notification, the request
//! for its e-mail and the record that the event was handled are one transaction. An e-mail cannot be part of one: it is
//! sent at least once, by a handler that does nothing else.

use std::sync::Arc;

use messaging::{Event, FromRef, HandlerError, Json, State, consumer, message_handler};
use service_kit::DatabaseError;
use service_kit::outbox::{Outbox, Tx};

use crate::events::{BareOrder, EmailRequested, OrderCompleted, OrderCreated};
use crate::mailer::{MailError, Mailer};
use crate::notification::NotificationInput;
use crate::store::NotificationStore;

/// Keeps a notification of everything that happens to orders, and asks for its e-mail.
#[derive(Debug, Clone)]
pub struct OrderNotifications {
    store: NotificationStore,
    outbox: Outbox,
}

#[consumer("notifications-service", topics = ["order-events"])]
impl OrderNotifications {
    /// A consumer that keeps notifications here, and records requests for e-mail in the outbox beside them.
    pub fn new(store: NotificationStore, outbox: Outbox) -> Self {
        Self { store, outbox }
    }

    #[on_event("orders.created")]
    async fn on_order_created(&self, event: Event<OrderCreated>, tx: &mut Tx) -> Result<(), HandlerError> {
        let OrderCreated { order_id, user_email, total } = event.data.clone();
        self.notify(&event, NotificationInput::order_received(user_email, order_id, total), tx).await
    }

    #[on_event("orders.completed")]
    async fn on_order_completed(&self, event: Event<OrderCompleted>, tx: &mut Tx) -> Result<(), HandlerError> {
        let OrderCompleted { order_id, user_email } = event.data.clone();
        self.notify(&event, NotificationInput::order_completed(user_email, order_id), tx).await
    }

    /// Keeps the notification and asks for its e-mail, or neither.
    async fn notify<T>(&self, event: &Event<T>, input: NotificationInput, tx: &mut Tx) -> Result<(), HandlerError> {
        let notification = self.store.insert(tx, &input).await.map_err(database)?;
        let request = EmailRequested { notification_id: notification.id };
        tx.publish_event(Event::new(request).caused_by(event)).await?;
        Ok(())
    }
}

impl FromRef<OrderNotifications> for Outbox {
    fn from_ref(consumer: &OrderNotifications) -> Self {
        consumer.outbox.clone()
    }
}

/// Sends the e-mail of notifications, at least once: a process that dies between the mail server's answer and noting it
/// sends again, under the same Message-ID. Not in a transaction, which a slow mail server would hold open.
#[derive(Debug, Clone)]
pub struct NotificationMailer {
    store: NotificationStore,
    mailer: Arc<dyn Mailer>,
}

#[consumer("notifications-mailer", topics = ["notification-emails"])]
impl NotificationMailer {
    /// A consumer that sends these notifications through this mailer.
    pub fn new(store: NotificationStore, mailer: Arc<dyn Mailer>) -> Self {
        Self { store, mailer }
    }

    #[on_event("notifications.email-requested")]
    async fn on_email_requested(&self, event: Event<EmailRequested>) -> Result<(), HandlerError> {
        let id = event.data.notification_id;
        let Some(notification) = self.store.get(id).await.map_err(database)? else {
            return Err(HandlerError::permanent(format!("there is no notification {id}")));
        };
        if notification.sent_at.is_none() {
            self.mailer.send(&notification).await.map_err(mail)?;
            self.store.mark_sent(id).await.map_err(database)?;
        }
        Ok(())
    }
}

/// The same for programs that send bare JSON, as a function: simpler, without shared methods.
///
/// A bare message has no id. It is recognised by its place in the broker's log, or by its header `message-id` where a broker
/// has none.
///
/// # Errors
/// The database failed.
#[message_handler(topic = "orders.created", group = "notifications-service")]
pub async fn on_bare_order_created(
    Json(order): Json<BareOrder>,
    State(consumer): State<OrderNotifications>,
    tx: &mut Tx,
) -> Result<(), HandlerError> {
    let input = NotificationInput::bare_order_received(order.user_email, order.order_id);
    let notification = consumer.store.insert(tx, &input).await.map_err(database)?;
    tx.publish(&EmailRequested { notification_id: notification.id }).await?;
    Ok(())
}

/// A database that is away says nothing about the event.
fn database(error: DatabaseError) -> HandlerError {
    if error.is_unavailable() { HandlerError::infrastructure(error) } else { HandlerError::transient(error) }
}

fn mail(error: MailError) -> HandlerError {
    match error {
        MailError::Refused(_) => HandlerError::permanent(error),
        MailError::Unavailable(_) => HandlerError::transient(error),
    }
}
