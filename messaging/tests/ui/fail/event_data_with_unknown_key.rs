use messaging::EventData;

#[derive(EventData, serde::Serialize)]
#[event(name = "orders.created", topic = "order-events", key = id)]
struct OrderCreated {
    order_id: i64,
    total: i64,
}

fn main() {}
