use messaging::EventData;

#[derive(EventData, serde::Serialize)]
#[event(name = "orders.created", topic = "order-events", key_field = "order_id")]
struct OrderCreated {
    order_id: i64,
}

fn main() {}
