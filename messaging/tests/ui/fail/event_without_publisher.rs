use messaging::{Result, event};

#[derive(serde::Serialize)]
struct OrderCompleted {
    order_id: i64,
}

#[event("orders.completed", topic = "order-events", key_field = "order_id")]
async fn complete(order_id: i64) -> Result<OrderCompleted> {
    Ok(OrderCompleted { order_id })
}

fn main() {}
