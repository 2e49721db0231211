//! [`Answering`]: a durable broker that remembers what it was sent, and answers as a test says.

use std::{collections::HashMap, sync::Arc, time::Duration};

use messaging::{
    Admin, Batch, Broker, Capabilities, Consumer, Error, Message, Outcome, Publisher, PublisherOptions, Receipt,
    Subscription,
};
use messaging_memory::MemoryBroker;
use parking_lot::Mutex;

use crate::given::OrderCreated;

/// Decides on a message.
type Answer = Box<dyn Fn(&OrderCreated, u32) -> Outcome + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Answering(Arc<Inner>);

struct Inner {
    capabilities: Capabilities,
    answer: Answer,
    state: Mutex<State>,
    admin: Arc<dyn Admin>,
}

#[derive(Default)]
struct State {
    /// Stored, in the order of the log.
    stored: Vec<OrderCreated>,
    /// The ids under which each was sent.
    ids: HashMap<OrderCreated, Vec<String>>,
    tries: HashMap<OrderCreated, u32>,
}

pub(crate) fn stored() -> Outcome {
    Outcome::Confirmed(Receipt::new(0, None))
}

impl Answering {
    /// Answers by this function of the order and of how often it was sent before.
    pub(crate) fn new(answer: impl Fn(&OrderCreated, u32) -> Outcome + Send + Sync + 'static) -> Self {
        let mut capabilities = Capabilities::none(1 << 20);
        capabilities.durable = true;
        let admin = MemoryBroker::new().messaging().admin();
        Self(Arc::new(Inner { capabilities, answer: Box::new(answer), state: Mutex::default(), admin }))
    }

    pub(crate) fn broker(&self) -> Arc<dyn Broker> {
        Arc::new(self.clone())
    }

    /// What is in the log.
    pub(crate) fn stored(&self) -> Vec<OrderCreated> {
        self.0.state.lock().stored.clone()
    }

    /// The ids under which an order was sent.
    pub(crate) fn ids(&self, order: &OrderCreated) -> Vec<String> {
        self.0.state.lock().ids.get(order).cloned().unwrap_or_default()
    }

    /// The first occurrences of each key stand in order; a later one may be a repeat.
    #[track_caller]
    pub(crate) fn assert_first_occurrences_in_order(&self) {
        let mut next: HashMap<i64, u32> = HashMap::new();
        for order in self.stored() {
            let next = next.entry(order.order_id).or_default();
            assert!(order.sequence <= *next, "{order:?} overtook {next}");
            *next = (*next).max(order.sequence + 1);
        }
    }
}

fn read(message: &Message) -> OrderCreated {
    serde_json::from_slice(&message.payload).unwrap()
}

#[async_trait::async_trait]
impl Publisher for Answering {
    fn send(&self, mut batch: Batch) {
        for index in 0..batch.len() {
            let order = read(batch.message(index));
            let id = batch.message(index).envelope.as_ref().map(|envelope| envelope.id.to_string());
            let before = {
                let mut state = self.0.state.lock();
                state.ids.entry(order.clone()).or_default().extend(id);
                let tries = state.tries.entry(order.clone()).or_default();
                *tries += 1;
                *tries - 1
            };
            let outcome = (self.0.answer)(&order, before);
            if matches!(outcome, Outcome::Confirmed(_)) {
                self.0.state.lock().stored.push(order);
            }
            batch.complete(index, outcome);
        }
    }

    fn depth(&self) -> usize {
        100
    }

    async fn close(&self, _: Duration) -> Result<(), Error> {
        Ok(())
    }
}

#[async_trait::async_trait]
impl Broker for Answering {
    fn name(&self) -> &'static str {
        "answering"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn publisher(&self, _: PublisherOptions) -> Result<Arc<dyn Publisher>, Error> {
        Ok(Arc::new(self.clone()))
    }

    async fn consumer(&self, _: &Subscription) -> Result<Box<dyn Consumer>, Error> {
        unreachable!("nobody subscribes here")
    }

    fn admin(&self) -> Arc<dyn Admin> {
        self.0.admin.clone()
    }

    async fn ping(&self, _: Duration) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self, _: Duration) -> Result<(), Error> {
        Ok(())
    }
}
