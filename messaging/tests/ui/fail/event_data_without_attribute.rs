use messaging::EventData;

#[derive(EventData, serde::Serialize)]
struct OrderCreated {
    order_id: i64,
}

fn main() {}
