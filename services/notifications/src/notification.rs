//! What a notification is, and what it says.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::Serialize;
use service_kit::EmailAddress;
use utoipa::ToSchema;

/// A notification as it is kept and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Notification {
    /// Never given to another notification.
    #[schema(example = 1, minimum = 1)]
    pub id: i64,
    /// Whom it is for.
    #[schema(example = "user@example.com", format = Email)]
    pub user_email: String,
    /// The e-mail's subject.
    #[schema(example = "Order Received")]
    pub subject: String,
    /// The e-mail's text.
    #[schema(example = "Your order #1 has been received. Total: $99.99")]
    pub body: String,
    /// When the e-mail was handed to the mail server; null until then.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00Z")]
    pub sent_at: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00Z")]
    pub created_at: Timestamp,
}

/// A notification to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationInput {
    /// Whom it is for.
    pub user_email: EmailAddress,
    /// The e-mail's subject.
    pub subject: &'static str,
    /// The e-mail's text.
    pub body: String,
}

impl NotificationInput {
    /// An order was placed.
    pub fn order_received(user_email: EmailAddress, order_id: i64, total: Decimal) -> Self {
        Self {
            user_email,
            subject: "Order Received",
            body: format!("Your order #{order_id} has been received. Total: ${total}"),
        }
    }

    /// An order was completed.
    pub fn order_completed(user_email: EmailAddress, order_id: i64) -> Self {
        Self {
            user_email,
            subject: "Order Completed",
            body: format!("Your order #{order_id} has been completed and shipped."),
        }
    }

    /// A bare message said that an order was placed, and nothing about its total.
    pub fn bare_order_received(user_email: EmailAddress, order_id: i64) -> Self {
        Self { user_email, subject: "Order Received", body: format!("Your order #{order_id} received.") }
    }
}
