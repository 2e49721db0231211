use messaging::{Messaging, Result, event};

#[derive(serde::Serialize)]
struct OrderCompleted {
    order_id: i64,
}

#[event("orders.completed", key_field = "order_id")]
async fn complete(_messaging: &Messaging, order_id: i64) -> Result<OrderCompleted> {
    Ok(OrderCompleted { order_id })
}

fn main() {}
