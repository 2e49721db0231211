//! What the service announces: the events of the topic `order-events`, in order per order.

use messaging::EventData;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::order::{Order, Status};

/// An order was placed.
#[derive(Debug, Clone, PartialEq, Eq, EventData, Serialize, Deserialize)]
#[event(name = "orders.created", topic = "order-events", key = order_id)]
pub struct OrderCreated {
    /// The order.
    pub order_id: i64,
    /// The customer.
    pub user_id: i64,
    /// Where notifications go.
    pub user_email: String,
    /// The amount, as text.
    pub total: Decimal,
}

/// An order was completed.
#[derive(Debug, Clone, PartialEq, Eq, EventData, Serialize, Deserialize)]
#[event(name = "orders.completed", topic = "order-events", key = order_id)]
pub struct OrderCompleted {
    /// The order.
    pub order_id: i64,
    /// Where notifications go.
    pub user_email: String,
    /// Always `completed`.
    pub status: Status,
}

impl From<&Order> for OrderCreated {
    fn from(order: &Order) -> Self {
        Self {
            order_id: order.id,
            user_id: order.user_id,
            user_email: order.user_email.clone(),
            total: order.total.into(),
        }
    }
}

impl From<&Order> for OrderCompleted {
    fn from(order: &Order) -> Self {
        Self { order_id: order.id, user_email: order.user_email.clone(), status: order.status }
    }
}
