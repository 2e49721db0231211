//! Events, recorders and routers that the tests share.

use std::sync::Arc;

use messaging::{Event, EventData, Router};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub(crate) const TOPIC: &str = "order-events";

#[derive(EventData, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[event(name = "orders.created", topic = "order-events", key = order_id)]
pub(crate) struct OrderCreated {
    pub order_id: i64,
    pub sequence: u32,
}

pub(crate) fn order(order_id: i64, sequence: u32) -> OrderCreated {
    OrderCreated { order_id, sequence }
}

/// What handlers have seen, in their order.
#[derive(Clone, Debug)]
pub(crate) struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T: Clone> Seen<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn add(&self, what: T) {
        self.0.lock().push(what);
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.lock().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().len()
    }
}

/// A group that notes the orders it sees.
pub(crate) fn notes(group: &str, seen: &Seen<OrderCreated>) -> Router {
    let seen = seen.clone();
    Router::new(group).topic(TOPIC).on_event("orders.created", move |event: Event<OrderCreated>| {
        let seen = seen.clone();
        async move { seen.add(event.data) }
    })
}
