use messaging::{Json, Result, consumer};

struct Notifications;

#[consumer("notifications", topics = ["order-events"])]
impl Notifications {
    #[on_event("orders.created")]
    async fn store(&self, _: Json<i64>) -> Result<()> {
        Ok(())
    }

    #[on_event("orders.created")]
    async fn send(&self, _: Json<i64>) -> Result<()> {
        Ok(())
    }
}

fn main() {}
