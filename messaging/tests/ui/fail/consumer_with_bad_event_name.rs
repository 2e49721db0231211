use messaging::{Json, Result, consumer};

struct Notifications;

#[consumer("notifications", topics = ["order-events"])]
impl Notifications {
    #[on_event("orders/completed")]
    async fn on_order_completed(&self, _: Json<i64>) -> Result<()> {
        Ok(())
    }
}

fn main() {}
