use messaging::{Json, Result, consumer};

struct Notifications;
struct Connection;

#[consumer("notifications", topics = ["order-events"])]
impl Notifications {
    #[on_event("orders.created")]
    async fn on_order_created(&self, _: &mut Connection, _: Json<i64>) -> Result<()> {
        Ok(())
    }
}

fn main() {}
