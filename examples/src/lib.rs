//! What the examples share: an event, and a group that handles it.

use messaging::{Error, Event, EventData, Messaging, Result, consumer};

/// An order was placed.
#[derive(Debug, EventData, serde::Serialize, serde::Deserialize)]
#[event(name = "orders.created", topic = "order-events", key = order_id)]
pub struct OrderCreated {
    /// The order.
    pub order_id: i64,
    /// Whom to tell.
    pub user_email: String,
}

/// Publishing: returns when the broker has confirmed.
///
/// # Errors
/// What the broker said, or that it said nothing in time.
pub async fn created(messaging: &Messaging, order_id: i64, user_email: String) -> Result<(), Error> {
    messaging.publish(&OrderCreated { order_id, user_email }).await?;
    Ok(())
}

/// Handling: a group, its topics, a method per event.
#[derive(Debug)]
pub struct Notifications;

#[consumer("notifications-service", topics = ["order-events"])]
impl Notifications {
    #[on_event("orders.created")]
    async fn on_created(&self, event: Event<OrderCreated>) -> Result<()> {
        println!("order {} of {}", event.data.order_id, event.data.user_email);
        Ok(())
    }
}
