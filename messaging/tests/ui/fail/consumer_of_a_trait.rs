use messaging::{Json, Result, consumer};

struct Notifications;

trait OnOrder {
    async fn on_order_created(&self, _: Json<i64>) -> Result<()>;
}

#[consumer("notifications", topics = ["order-events"])]
impl OnOrder for Notifications {
    #[on_event("orders.created")]
    async fn on_order_created(&self, _: Json<i64>) -> Result<()> {
        Ok(())
    }
}

fn main() {}
