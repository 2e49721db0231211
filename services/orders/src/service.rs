//! What can be done with orders: change the row, then announce it.

use messaging::Messaging;
use service_kit::{BoxFuture, DatabaseError};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::events::{OrderCompleted, OrderCreated};
use crate::order::{Order, OrderInput};
use crate::store::{Completion, OrderStore};

/// The service's operations; clones share everything.
#[derive(Debug, Clone)]
pub struct OrderService {
    store: OrderStore,
    messaging: Messaging,
    tasks: TaskTracker,
}

/// Why an operation did not do all that was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// There is no such order.
    #[error("there is no order {0}")]
    NotFound(i64),
    /// Somebody had completed it before.
    #[error("order {0} is already completed")]
    AlreadyCompleted(i64),
    /// The change is stored, but whether others learn of it is not known, or they surely do not.
    #[error("order {order_id} is stored but could not be announced")]
    Unannounced {
        /// The order that changed.
        order_id: i64,
        /// What the broker said.
        source: messaging::Error,
    },
    /// The database failed; nothing is known to have changed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The operation panicked or was ended with the process.
    #[error("the operation did not finish")]
    Aborted(#[from] tokio::task::JoinError),
}

impl OrderService {
    /// A service over these orders that announces on this broker.
    pub fn new(store: OrderStore, messaging: Messaging) -> Self {
        Self { store, messaging, tasks: TaskTracker::new() }
    }

    /// The orders themselves, for what needs no announcement.
    pub fn store(&self) -> &OrderStore {
        &self.store
    }

    /// The broker that changes are announced on.
    pub fn messaging(&self) -> &Messaging {
        &self.messaging
    }

    /// Takes an order and announces it.
    ///
    /// # Errors
    /// The database failed, or the order is stored but not announced.
    pub async fn create(&self, input: OrderInput) -> Result<Order, OrderError> {
        let service = self.clone();
        self.to_its_end(Box::pin(async move {
            let order = service.store.insert(&input).await?;
            let event = OrderCreated::from(&order);
            service.messaging.publish(&event).await.map_err(unannounced(order.id))?;
            Ok(order)
        }))
        .await
    }

    /// Completes a pending order and announces it.
    ///
    /// # Errors
    /// There is no such order, it is completed already, the database failed, or the order is completed but that is not
    /// announced.
    pub async fn complete(&self, id: i64) -> Result<Order, OrderError> {
        let service = self.clone();
        self.to_its_end(Box::pin(async move {
            let order = match service.store.complete(id).await? {
                Completion::Completed(order) => order,
                Completion::AlreadyCompleted => return Err(OrderError::AlreadyCompleted(id)),
                Completion::NotFound => return Err(OrderError::NotFound(id)),
            };
            let event = OrderCompleted::from(&order);
            service.messaging.publish(&event).await.map_err(unannounced(id))?;
            Ok(order)
        }))
        .await
    }

    /// Waits until no change is left between its commit and its announcement.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Runs a change in a task of its own: a client that hangs up in the middle drops its request, and must not drop the
    /// announcement of what is committed.
    async fn to_its_end(&self, change: BoxFuture<'static, Result<Order, OrderError>>) -> Result<Order, OrderError> {
        self.tasks.spawn(change.in_current_span()).await?
    }
}

fn unannounced(order_id: i64) -> impl FnOnce(messaging::Error) -> OrderError {
    move |source| OrderError::Unannounced { order_id, source }
}
