use messaging::{Messaging, event};

#[derive(serde::Serialize)]
struct OrderCompleted {
    order_id: i64,
}

struct NoSuchOrder;

#[event("orders.completed", topic = "order-events", key_field = "order_id")]
async fn complete(messaging: &Messaging, order_id: i64) -> Result<OrderCompleted, NoSuchOrder> {
    if order_id < 0 { Err(NoSuchOrder) } else { Ok(OrderCompleted { order_id }) }
}

fn main() {}
