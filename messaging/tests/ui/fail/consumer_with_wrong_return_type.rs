use messaging::{Json, Result, consumer};

struct Notifications;

#[consumer("notifications", topics = ["order-events"])]
impl Notifications {
    #[on_event("orders.created")]
    async fn on_order_created(&self, number: Json<i64>) -> Result<i64> {
        Ok(number.0)
    }
}

fn main() {}
