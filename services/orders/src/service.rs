//! What can be done with orders: change the row and record the event about it, in one transaction.

use messaging::event;
use service_kit::DatabaseError;
use service_kit::outbox::{Outbox, Tx};

use crate::events::{OrderCompleted, OrderCreated};
use crate::order::{Order, OrderInput};
use crate::store::{Completion, OrderStore};

/// The service's operations; clones share everything.
#[derive(Debug, Clone)]
pub struct OrderService {
    store: OrderStore,
    outbox: Outbox,
}

/// Why an operation was not done: nothing has changed, and nothing will be announced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// There is no such order.
    #[error("there is no order {0}")]
    NotFound(i64),
    /// Somebody had completed it before.
    #[error("order {0} is already completed")]
    AlreadyCompleted(i64),
    /// A statement failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The transaction did not begin, could not record the event, or was not committed. Of kind
    /// [`Unknown`](messaging::ErrorKind::Unknown) it may be committed all the same: the database did not say.
    #[error(transparent)]
    Transaction(#[from] messaging::Error),
}

impl OrderService {
    /// A service over these orders that records its events in this outbox, which is in the same database.
    pub fn new(store: OrderStore, outbox: Outbox) -> Self {
        Self { store, outbox }
    }

    /// The orders themselves, for what needs no announcement.
    pub fn store(&self) -> &OrderStore {
        &self.store
    }

    /// Where changes are announced.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Takes an order, and announces it once it is stored. The broker need not be there.
    ///
    /// # Errors
    /// The database failed.
    pub async fn create(&self, input: OrderInput) -> Result<Order, OrderError> {
        let mut tx = self.outbox.begin().await?;
        let order = self.store.insert(&mut tx, &input).await?;
        tx.publish(&OrderCreated::from(&order)).await?;
        tx.commit().await?;
        Ok(order)
    }

    /// Completes a pending order, and announces it once that is stored.
    ///
    /// # Errors
    /// There is no such order, it is completed already, or the database failed.
    pub async fn complete(&self, id: i64) -> Result<Order, OrderError> {
        let mut tx = self.outbox.begin().await?;
        let (order, _) = self.completed(&mut tx, id).await?;
        tx.commit().await?;
        Ok(order)
    }

    /// Completes it in a transaction: the event is recorded there if this succeeds.
    #[event("orders.completed", topic = "order-events", key_field = "order_id")]
    async fn completed(&self, tx: &mut Tx, id: i64) -> Result<(Order, OrderCompleted), OrderError> {
        match self.store.complete(tx, id).await? {
            Completion::Completed(order) => {
                let event = OrderCompleted::from(&order);
                Ok((order, event))
            }
            Completion::AlreadyCompleted => Err(OrderError::AlreadyCompleted(id)),
            Completion::NotFound => Err(OrderError::NotFound(id)),
        }
    }
}
