use std::rc::Rc;

use messaging::{Json, Result, consumer};

struct Notifications;

#[consumer("notifications", topics = ["order-events"])]
impl Notifications {
    #[on_event("orders.created")]
    async fn on_order_created(&self, number: Json<i64>) -> Result<()> {
        let shared = Rc::new(number);
        std::future::ready(()).await;
        drop(shared);
        Ok(())
    }
}

fn main() {}
