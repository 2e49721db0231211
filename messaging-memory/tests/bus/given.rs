//! Events, recorders and routers that the tests share.

use std::{sync::Arc, time::Duration};

use messaging::{Event, EventData, FailurePolicy, Router};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub(crate) const TOPIC: &str = "order-events";

#[derive(EventData, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[event(name = "orders.created", topic = "order-events", key = order_id)]
pub(crate) struct OrderCreated {
    pub(crate) order_id: i64,
    pub(crate) sequence: u32,
}

pub(crate) fn order(order_id: i64, sequence: u32) -> OrderCreated {
    OrderCreated { order_id, sequence }
}

/// What handlers have seen, in their order.
#[derive(Debug)]
pub(crate) struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

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

/// Virtual milliseconds since the test began.
#[derive(Clone, Copy)]
pub(crate) struct Watch(Instant);

impl Watch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn ms(&self) -> u128 {
        self.0.elapsed().as_millis()
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

/// The default policy without chance in it.
pub(crate) fn exact() -> FailurePolicy {
    FailurePolicy::default().jitter(0.0)
}

pub(crate) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
