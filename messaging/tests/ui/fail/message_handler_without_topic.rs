use messaging::{Json, Result, message_handler};

#[message_handler(group = "notifications")]
async fn on_order_created(_: Json<i64>) -> Result<()> {
    Ok(())
}

fn main() {}
