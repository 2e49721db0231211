use messaging::EventData;

#[derive(EventData, serde::Serialize)]
#[event(name = "orders.created", topic = "order-events", key = total)]
struct OrderCreated {
    total: f64,
}

fn main() {}
