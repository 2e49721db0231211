use messaging::EventData;

#[derive(EventData, serde::Serialize)]
#[event(name = "orders.created", key = order_id)]
struct OrderCreated {
    order_id: i64,
}

fn main() {}
