//! The events that the service hears and makes, as far as it reads them.

use messaging::EventData;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use service_kit::EmailAddress;

/// An order was placed. The orders service says more than is read here.
#[derive(Debug, Clone, PartialEq, Eq, EventData, Serialize, Deserialize)]
#[event(name = "orders.created", topic = "order-events", key = order_id)]
pub struct OrderCreated {
    /// The order.
    pub order_id: i64,
    /// Whom to notify.
    pub user_email: EmailAddress,
    /// The amount, as text.
    pub total: Decimal,
}

/// An order was completed.
#[derive(Debug, Clone, PartialEq, Eq, EventData, Serialize, Deserialize)]
#[event(name = "orders.completed", topic = "order-events", key = order_id)]
pub struct OrderCompleted {
    /// The order.
    pub order_id: i64,
    /// Whom to notify.
    pub user_email: EmailAddress,
}

/// A bare message on the topic `orders.created`, from programs that know no envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BareOrder {
    /// The order.
    pub order_id: i64,
    /// Whom to notify.
    pub user_email: EmailAddress,
}

/// A notification is kept and wants to be sent.
///
/// An event of its own, so that a mail server's troubles hold up e-mail and nothing else: its retries and dead letters
/// are the e-mail's.
#[derive(Debug, Clone, PartialEq, Eq, EventData, Serialize, Deserialize)]
#[event(name = "notifications.email-requested", topic = "notification-emails", key = notification_id)]
pub struct EmailRequested {
    /// The notification to send.
    pub notification_id: i64,
}
