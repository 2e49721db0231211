use messaging::{Json, Result, message_handler};

struct Notifications;

impl Notifications {
    #[message_handler(topic = "orders.created")]
    async fn on_order_created(&self, _: Json<i64>) -> Result<()> {
        Ok(())
    }
}

fn main() {}
