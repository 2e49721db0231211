use messaging::EventData;

#[derive(EventData, serde::Serialize)]
#[event(name = "orders.changed", topic = "order-events", key = order_id)]
enum OrderChanged {
    Created { order_id: i64 },
    Completed { order_id: i64 },
}

fn main() {}
