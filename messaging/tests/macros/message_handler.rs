use std::sync::Arc;

use bytes::Bytes;
use messaging::{
    Begun, Ending, FailurePolicy, Finished, FromRef, Json, Message, Resource, ResourceContext, Result, Router, State,
    message_handler,
};
use messaging_memory::MemoryBroker;
use parking_lot::Mutex;
use serde_json::{Value, json};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Tx(Log);

impl<S: Sync> Resource<S> for Tx
where
    Log: FromRef<S>,
{
    async fn begin(context: ResourceContext<'_, S>) -> Result<Begun<Self>> {
        Ok(Begun::Run(Self(Log::from_ref(context.state))))
    }

    async fn finish(self, _: Ending) -> Finished {
        Finished::Committed
    }
}

#[message_handler(topic = "orders.created")]
async fn on_order_created(message: Json<Value>, Tx(log): &mut Tx) -> Result<()> {
    log.0.lock().push(format!("Your order #{} received.", message["order_id"]));
    Ok(())
}

#[message_handler(topic = "orders.deleted", group = "audit", failure_policy = FailurePolicy::immediate())]
async fn on_order_deleted(payload: Bytes, State(log): State<Log>) {
    log.0.lock().push(format!("deleted {}", payload.len()));
}

struct App {
    log: Log,
}

impl FromRef<App> for Log {
    fn from_ref(state: &App) -> Self {
        state.log.clone()
    }
}

#[message_handler(topic = "orders.moved", state = App, spawned)]
async fn on_order_moved(_: Json<Value>, tx: &mut Tx) {
    tx.0.0.lock().push("moved".into());
}

fn raw(topic: &'static str, payload: &'static str) -> Message {
    Message::new(topic, payload)
}

#[test]
fn a_handler_subscribes_to_its_topic() {
    let subscription = on_order_created::router("notifications").with_state(Log::default()).subscription();
    assert_eq!(
        (subscription.group.as_str(), &subscription.topics[..]),
        ("notifications", &["orders.created".into()][..])
    );
    let subscription = on_order_deleted::router().subscription();
    assert_eq!((subscription.group.as_str(), &subscription.topics[..]), ("audit", &["orders.deleted".into()][..]));
}

#[test]
fn a_route_joins_a_router_of_its_state() {
    let router: Router<App> = Router::new("all").route(on_order_created::route()).route(on_order_moved::route());
    assert_eq!(router.subscription().topics, ["orders.created", "orders.moved"]);
}

#[tokio::test]
async fn handlers_of_one_group_run_in_one_application() {
    let bus = MemoryBroker::new();
    let log = Log::default();
    let running = bus
        .messaging()
        .run([
            on_order_created::router("audit").with_state(log.clone()),
            on_order_deleted::router().with_state(log.clone()),
            on_order_moved::router("audit").with_state(App { log: log.clone() }),
        ])
        .await
        .unwrap();
    for (topic, payload) in [("orders.created", r#"{"order_id":7}"#), ("orders.deleted", "7"), ("orders.moved", "{}")] {
        bus.messaging().publish_raw(raw(topic, payload)).await.unwrap();
        bus.settled().await.unwrap();
    }
    assert_eq!(*log.0.lock(), ["Your order #7 received.", "deleted 1", "moved"]);
    drop(running);
}

#[tokio::test]
async fn a_handler_is_called_like_any_function() {
    let mut tx = Tx(Log::default());
    on_order_created(Json(json!({ "order_id": 7 })), &mut tx).await.unwrap();
    assert_eq!(*tx.0.0.lock(), ["Your order #7 received."]);
}
