use messaging::{Messaging, Result, event};

#[derive(serde::Serialize)]
struct OrderCompleted {
    total: f64,
}

#[event("orders.completed", topic = "order-events", key_field = "total")]
async fn complete(messaging: &Messaging, total: f64) -> Result<OrderCompleted> {
    Ok(OrderCompleted { total })
}

fn main() {}
