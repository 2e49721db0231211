//! What can be done with orders: change the row, then say so.

use service_kit::DatabaseError;

use crate::order::{Order, OrderInput};
use crate::store::{Completion, OrderStore};

/// The service's operations; clones share everything.
#[derive(Debug, Clone)]
pub struct OrderService {
    store: OrderStore,
}

impl OrderService {
    /// A service over these orders.
    pub fn new(store: OrderStore) -> Self {
        Self { store }
    }

    /// The orders themselves, for what needs no announcement.
    pub fn store(&self) -> &OrderStore {
        &self.store
    }

    /// Takes an order.
    pub async fn create(&self, input: OrderInput) -> Result<Order, DatabaseError> {
        self.store.insert(&input).await
    }

    /// Completes an order.
    pub async fn complete(&self, id: i64) -> Result<Completion, DatabaseError> {
        self.store.complete(id).await
    }
}
