//! A group of its own that sees what `orders` publishes, as any service would.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use messaging::{Event, HandlerError, MessagingConfig, Router, Running, State, configure_messaging};
use messaging_backends::backends;
use orders::events::{OrderCompleted, OrderCreated};
use service_testing::{Client, eventually, every_item};
use test_brokers::Broker;

pub(crate) struct Observer {
    seen: Seen,
    running: Running,
}

/// What was seen, in the order in which it was.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Events>>);

#[derive(Default)]
struct Events {
    /// How often each event was seen, by its id.
    times: HashMap<String, usize>,
    /// Ids in the order in which they were first seen.
    ids: Vec<String>,
    /// What was announced of each order, each event once.
    by_order: BTreeMap<i64, Vec<&'static str>>,
}

impl Seen {
    fn note(&self, id: String, order: i64, what: &'static str) {
        let mut events = self.0.lock().unwrap();
        let times = events.times.entry(id.clone()).or_default();
        *times += 1;
        if *times == 1 {
            events.ids.push(id);
            events.by_order.entry(order).or_default().push(what);
        }
    }
}

async fn created(event: Event<OrderCreated>, State(seen): State<Seen>) -> Result<(), HandlerError> {
    seen.note(event.id().unwrap().to_string(), event.data.order_id, "created");
    Ok(())
}

async fn completed(event: Event<OrderCompleted>, State(seen): State<Seen>) -> Result<(), HandlerError> {
    seen.note(event.id().unwrap().to_string(), event.data.order_id, "completed");
    Ok(())
}

impl Observer {
    pub(crate) async fn join(broker: &Broker) -> Self {
        let config = MessagingConfig::from_url(&broker.url()).unwrap();
        let messaging = configure_messaging(&config, backends()).await.unwrap();
        let seen = Seen::default();
        let router = Router::new("observer")
            .topic("order-events")
            .on_event("orders.created", created)
            .on_event("orders.completed", completed);
        let running = messaging.run_one(router.with_state(seen.clone())).await.unwrap();
        Self { seen, running }
    }

    pub(crate) fn has_seen(&self, id: &str) -> bool {
        self.seen.0.lock().unwrap().times.contains_key(id)
    }

    /// How many events were seen until now.
    pub(crate) fn count(&self) -> usize {
        self.seen.0.lock().unwrap().ids.len()
    }

    /// The ids of events that were seen after so many others.
    pub(crate) fn since(&self, count: usize) -> Vec<String> {
        self.seen.0.lock().unwrap().ids[count..].to_vec()
    }

    /// How often an event came that had been seen before.
    pub(crate) fn repeats(&self) -> usize {
        self.seen.0.lock().unwrap().times.values().map(|times| times - 1).sum()
    }

    /// Waits until every order has been announced with all that became of it, and checks that each event has one id, and
    /// that those of an order came in their order.
    pub(crate) async fn has_seen_each_once_and_in_order(self, orders: &Client) {
        let orders = every_item(orders, "/api/v1/orders/").await;
        let expected: BTreeMap<i64, Vec<&str>> = orders
            .iter()
            .map(|order| {
                let is_completed = order["status"] == "completed";
                let announced: &[&str] = if is_completed { &["created", "completed"] } else { &["created"] };
                (order["id"].as_i64().unwrap(), announced.to_vec())
            })
            .collect();
        let wanted: usize = expected.values().map(Vec::len).sum();
        eventually("all events of all orders", async || (self.count() >= wanted).then_some(())).await;
        let seen = std::mem::take(&mut self.seen.0.lock().unwrap().by_order);
        for (order, announced) in &seen {
            assert_eq!(Some(announced), expected.get(order), "of order {order}");
        }
        assert_eq!(seen.len(), expected.len());
        self.running.shutdown(Duration::from_secs(10)).await.unwrap();
    }
}
