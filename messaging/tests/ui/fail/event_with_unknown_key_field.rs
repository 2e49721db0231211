use messaging::{Messaging, Result, event};

#[derive(serde::Serialize)]
struct OrderCompleted {
    order_id: i64,
}

#[event("orders.completed", topic = "order-events", key_field = "id")]
async fn complete(messaging: &Messaging, order_id: i64) -> Result<OrderCompleted> {
    Ok(OrderCompleted { order_id })
}

fn main() {}
