//! The macros' code does not meet what the user calls by the same names.
#![allow(dead_code, non_camel_case_types)]

struct Ok;
struct Result;
struct Option;
struct String;
trait Into {}
trait Send {}
trait Sync {}
trait From {}
mod std {}
mod core {}
mod serde_json {}

#[derive(messaging::EventData, serde::Serialize, serde::Deserialize)]
#[event(name = "orders.created", topic = "order-events", key = key)]
struct OrderCreated {
    key: i64,
}

struct Notifications;

#[messaging::consumer("notifications", topics = ["order-events"])]
impl Notifications {
    #[on_event("orders.created")]
    async fn on_order_created(&self, this: messaging::Event<OrderCreated>, argument_0: messaging::Attempt) {
        let _ = (this, argument_0);
    }
}

#[messaging::message_handler(topic = "orders.created")]
async fn on_order_created(order: messaging::Json<OrderCreated>) {
    let _ = order;
}

#[messaging::event("orders.created", topic = "order-events", key_field = "key", publisher = payload)]
async fn create(payload: &messaging::Messaging, event: i64, returned: i64) -> messaging::Result<OrderCreated> {
    messaging::Result::Ok(OrderCreated { key: event + returned })
}

fn main() {
    let _: messaging::Router = Notifications.router();
    let _: messaging::Router = on_order_created::router("notifications");
    let _ = create;
}
