use std::{fmt::Display, sync::Arc};

use messaging::{
    Attempt, Begun, Capability, Ending, Event, EventData, FailurePolicy, Fence, Finished, FromRef, HandlerError,
    IntoRouter, Json, Resource, ResourceContext, Result, Start, State, consumer,
};
use messaging_memory::MemoryBroker;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

#[derive(EventData, Serialize, Deserialize)]
#[event(name = "orders.created", topic = "order-events", key = order_id)]
struct OrderCreated {
    order_id: i64,
}

#[derive(EventData, Serialize, Deserialize)]
#[event(name = "orders.completed", topic = "order-events", key = order_id)]
struct OrderCompleted {
    order_id: i64,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn write(&self, entry: impl Display) {
        self.0.lock().push(entry.to_string());
    }

    fn entries(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

/// A transaction on a [`Log`]: keeps what it is told if it is committed.
struct Tx {
    log: Log,
    entries: Vec<String>,
}

impl<S: Sync> Resource<S> for Tx
where
    Log: FromRef<S>,
{
    async fn begin(context: ResourceContext<'_, S>) -> Result<Begun<Self>> {
        Ok(Begun::Run(Self { log: Log::from_ref(context.state), entries: Vec::new() }))
    }

    async fn finish(self, ending: Ending) -> Finished {
        match ending {
            Ending::Handled => self.entries.iter().for_each(|entry| self.log.write(entry)),
            Ending::Failed => self.log.write("undone"),
            Ending::Dead => self.log.write("dead"),
        }
        Finished::Committed
    }
}

struct Notifications {
    log: Log,
}

impl FromRef<Notifications> for Log {
    fn from_ref(state: &Notifications) -> Self {
        state.log.clone()
    }
}

#[consumer("notifications", topics = ["order-events"], failure_policy = FailurePolicy::immediate())]
impl Notifications {
    #[on_event("orders.created")]
    async fn on_order_created(&self, event: Event<OrderCreated>, Attempt(attempt): Attempt, tx: &mut Tx) -> Result<()> {
        tx.entries.push(format!("created {}, attempt {attempt}", event.data.order_id));
        tokio::task::yield_now().await;
        if event.data.order_id < 0 { Err(HandlerError::permanent("no such order")) } else { Ok(()) }
    }

    #[on_event(OrderCompleted::NAME, spawned)]
    async fn on_order_completed(&self, event: Event<OrderCompleted>, log: State<Log>) {
        self.write(&log, format_args!("completed {}", event.data.order_id));
    }

    #[on_message(topic = "imports", failure_policy = FailurePolicy::immediate())]
    async fn on_import(&self, order: Json<OrderCreated>) -> Result<(), std::fmt::Error> {
        self.write(&self.log, format_args!("imported {}", order.order_id));
        Ok(())
    }

    #[cfg(any())]
    #[on_event("orders.forgotten")]
    async fn on_order_forgotten(&self, event: DoesNotExist) {}

    fn write(&self, log: &Log, entry: impl Display) {
        log.write(entry);
    }
}

#[test]
fn the_router_subscribes_to_the_topics_of_the_group_and_of_its_handlers() {
    let subscription = Notifications { log: Log::default() }.router().subscription();
    assert_eq!(subscription.group, "notifications");
    assert_eq!(subscription.topics, ["order-events", "imports"]);
    assert_eq!((subscription.start, subscription.requires), (Start::Default, vec![]));
}

#[tokio::test]
async fn each_event_goes_to_its_handler() {
    let bus = MemoryBroker::new();
    let log = Log::default();
    let running = bus.messaging().run_one(Notifications { log: log.clone() }).await.unwrap();

    bus.publish(&OrderCreated { order_id: 7 }).await.unwrap();
    bus.settled().await.unwrap();
    bus.publish(&OrderCompleted { order_id: 7 }).await.unwrap();
    bus.settled().await.unwrap();
    bus.messaging().publish_event(Event::named("imports.row", "imports", OrderCreated { order_id: 8 })).await.unwrap();
    bus.settled().await.unwrap();
    bus.publish(&OrderCreated { order_id: -1 }).await.unwrap();
    bus.settled().await.unwrap();

    assert_eq!(log.entries(), ["created 7, attempt 1", "completed 7", "imported 8", "undone", "dead"]);
    assert_eq!(bus.dead_letters("notifications").len(), 1);
    drop(running);
}

#[tokio::test]
async fn a_handler_is_called_like_any_method() {
    let log = Log::default();
    let mut tx = Tx { log: log.clone(), entries: Vec::new() };
    let notifications = Notifications { log };
    let event = Event::new(OrderCreated { order_id: 7 });
    notifications.on_order_created(event, Attempt(2), &mut tx).await.unwrap();
    assert_eq!(tx.entries, ["created 7, attempt 2"]);
}

/// Of any type that can be shown, with options that the router checks.
struct Printer<T> {
    prefix: T,
}

#[consumer(PRINTERS, topics = [OrderCreated::TOPIC, "order-events"], start = Start::Latest, concurrency = 2 + 2)]
impl<T: Display + Send + Sync + 'static> Printer<T> {
    #[on_event("orders.created")]
    async fn print(&self, event: Event<OrderCreated>, fence: Fence) -> Result<()> {
        println!("{} {} {fence:?}", self.prefix, event.data.order_id);
        Ok(())
    }
}

const PRINTERS: &str = "printers";

#[test]
fn generic_consumers_and_constants() {
    let shared = Arc::new(Printer { prefix: "order" });
    for router in [shared.clone().shared_router(), Printer { prefix: 1 }.into_router()] {
        let subscription = router.subscription();
        assert_eq!((subscription.group.as_str(), &subscription.topics[..]), ("printers", &["order-events".into()][..]));
        assert_eq!(subscription.start, Start::Latest);
        assert_eq!(subscription.requires, [Capability::FencingToken]);
    }
    assert_eq!(Arc::strong_count(&shared), 1, "the router holds the value no longer than it lives");
}
