//! The macros need nothing of the module around them: no import, and no item outside of the function they stand in.

fn main() {
    #[derive(messaging::EventData, serde::Serialize, serde::Deserialize)]
    #[event(name = "orders.created", topic = "order-events", key = order_id)]
    struct OrderCreated {
        order_id: i64,
    }

    struct Notifications;

    #[messaging::consumer("notifications", topics = ["order-events"])]
    impl Notifications {
        #[messaging::on_event("orders.created")]
        async fn on_order_created(&self, event: messaging::Event<OrderCreated>) {
            drop(event);
        }
    }

    #[messaging::message_handler(topic = "orders.created", group = "notifications")]
    async fn on_order_created(order: messaging::Json<OrderCreated>) {
        drop(order);
    }

    #[messaging::debug_handler]
    async fn on_order_deleted(order: messaging::Json<OrderCreated>) {
        drop(order);
    }

    #[messaging::event("orders.created", topic = "order-events", key_field = "order_id")]
    async fn create(messaging: &messaging::Messaging, order_id: i64) -> messaging::Result<OrderCreated> {
        Ok(OrderCreated { order_id })
    }

    let _: messaging::Router = messaging::IntoRouter::into_router(Notifications);
    let _: messaging::Router = on_order_created::router();
    let _: messaging::Router = messaging::Router::new("orders").on_message("orders.deleted", on_order_deleted);
    let _ = create;
}
