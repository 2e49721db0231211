//! A service as somebody else writes it.

use std::sync::{Arc, Mutex};

use messaging::{Event, EventData, Result, consumer};

/// An order was placed.
#[derive(Debug, EventData, serde::Serialize, serde::Deserialize)]
#[event(name = "orders.created", topic = "order-events", key = order_id)]
pub struct OrderCreated {
    pub order_id: i64,
}

/// Notes which orders there are.
#[derive(Clone, Debug, Default)]
pub struct Noted(pub Arc<Mutex<Vec<i64>>>);

#[consumer("noting-service", topics = ["order-events"])]
impl Noted {
    #[on_event("orders.created")]
    async fn on_created(&self, event: Event<OrderCreated>) -> Result<()> {
        self.0.lock().expect("nobody panics with the lock").push(event.data.order_id);
        Ok(())
    }
}

/// The schemes of the brokers that this program is built for.
pub fn schemes() -> Vec<&'static str> {
    messaging_backends::backends().iter().flat_map(|backend| backend.schemes()).copied().collect()
}
