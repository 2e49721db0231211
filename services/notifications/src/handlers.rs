//! What happens when an order does something: a notification is kept, and its e-mail sent.
//!
//! Events may be delivered more than once. Each handler can therefore run again on the same event: a notification is
//! kept once per event, and one that was sent is not sent again.

use std::sync::Arc;

use messaging::{Event, HandlerError, Json, Messaging, State, consumer, message_handler};
use service_kit::DatabaseError;

use crate::events::{BareOrder, EmailRequested, OrderCompleted, OrderCreated};
use crate::mailer::{MailError, Mailer};
use crate::notification::NotificationInput;
use crate::store::{EventIdentity, NotificationStore};

/// Keeps a notification of everything that happens to orders, and asks for its e-mail.
#[derive(Debug, Clone)]
pub struct OrderNotifications {
    store: NotificationStore,
    messaging: Messaging,
}

#[consumer("notifications-service", topics = ["order-events"])]
impl OrderNotifications {
    /// A consumer that keeps notifications here and asks for e-mail on this broker.
    pub fn new(store: NotificationStore, messaging: Messaging) -> Self {
        Self { store, messaging }
    }

    #[on_event("orders.created")]
    async fn on_order_created(&self, event: Event<OrderCreated>) -> Result<(), HandlerError> {
        let OrderCreated { order_id, user_email, total } = event.data.clone();
        self.notify(&event, NotificationInput::order_received(user_email, order_id, total)).await
    }

    #[on_event("orders.completed")]
    async fn on_order_completed(&self, event: Event<OrderCompleted>) -> Result<(), HandlerError> {
        let OrderCompleted { order_id, user_email } = event.data.clone();
        self.notify(&event, NotificationInput::order_completed(user_email, order_id)).await
    }

    /// Keeps the notification, then asks for its e-mail. If the process dies in between, the event comes again.
    async fn notify<T>(&self, event: &Event<T>, input: NotificationInput) -> Result<(), HandlerError> {
        let id = event.id().map(ToString::to_string);
        let identity = id.as_deref().map(|id| EventIdentity { source: event.source(), id });
        let notification = self.store.insert(&input, identity).await.map_err(database)?;
        if notification.sent_at.is_none() {
            let request = EmailRequested { notification_id: notification.id };
            self.messaging.publish_event(Event::new(request).caused_by(event)).await.map_err(broker)?;
        }
        Ok(())
    }
}

/// Sends the e-mail of notifications.
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
/// A bare message has no identity, so one that is delivered twice is kept twice.
///
/// # Errors
/// The database failed.
#[message_handler(topic = "orders.created", group = "notifications-service")]
pub async fn on_bare_order_created(
    Json(order): Json<BareOrder>,
    State(store): State<NotificationStore>,
) -> Result<(), HandlerError> {
    let input = NotificationInput::bare_order_received(order.user_email, order.order_id);
    store.insert(&input, None).await.map_err(database)?;
    Ok(())
}

/// A database that is away says nothing about the event.
fn database(error: DatabaseError) -> HandlerError {
    if error.is_unavailable() { HandlerError::infrastructure(error) } else { HandlerError::transient(error) }
}

/// Nor does a broker.
fn broker(error: messaging::Error) -> HandlerError {
    if error.is_transient() { HandlerError::infrastructure(error) } else { error.into() }
}

fn mail(error: MailError) -> HandlerError {
    match error {
        MailError::Refused(_) => HandlerError::permanent(error),
        MailError::Unavailable(_) => HandlerError::transient(error),
    }
}
