use messaging::{Json, Result, message_handler};

#[message_handler(topic = "orders.created")]
async fn on_order_created(_: Json<i64>, order_id: i64) -> Result<()> {
    drop(order_id);
    Ok(())
}

fn main() {}
