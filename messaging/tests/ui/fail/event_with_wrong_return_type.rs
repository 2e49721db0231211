use messaging::{Messaging, Result, event};

#[derive(serde::Serialize)]
struct OrderCompleted {
    order_id: i64,
}

#[event("orders.completed", topic = "order-events", key_field = "order_id")]
async fn complete(messaging: &Messaging, order_id: i64) -> Option<OrderCompleted> {
    Some(OrderCompleted { order_id })
}

#[event("orders.completed", topic = "order-events")]
async fn complete_quietly(messaging: &Messaging) -> Result<()> {
    Ok(())
}

fn main() {}
