//! [`Unsent`]: rows that are not with the broker yet, as work that [`Messaging::settled`](messaging::Messaging::settled)
//! waits for.

use std::{
    sync::{Weak, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use messaging::PendingWork;

use crate::{
    database::Sql,
    outbox::{Inner, Outbox},
};

/// How long the database is left alone between two looks, if no relay of this process says that it is done with rows.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks into the database only while this process has recorded something since the outbox was last seen empty. Delayed
/// rows count once they are due and moved.
pub(crate) struct Unsent {
    /// Weak: the connection that waits for it is held by the outbox.
    outbox: Weak<Inner>,
}

impl Unsent {
    pub(crate) fn new(outbox: &Outbox) -> Self {
        Self { outbox: std::sync::Arc::downgrade(&outbox.inner) }
    }
}

async fn is_empty(outbox: &Inner) -> bool {
    static ANY: Sql = Sql::new("SELECT shard FROM messaging_outbox LIMIT 1");
    outbox.database.read(&ANY, Vec::new()).await.is_ok_and(|records| records.is_empty())
}

#[async_trait]
impl PendingWork for Unsent {
    fn pending(&self) -> usize {
        self.outbox.upgrade().map_or(0, |outbox| outbox.signals.unseen.load(Ordering::Acquire))
    }

    async fn idle(&self) {
        loop {
            let Some(outbox) = self.outbox.upgrade() else { return };
            let mut done = std::pin::pin!(outbox.signals.done.notified());
            done.as_mut().enable();
            let seen = outbox.signals.unseen.load(Ordering::Acquire);
            if seen == 0 {
                return;
            }
            if is_empty(&outbox).await {
                // Unless something was recorded during the look.
                let unseen = &outbox.signals.unseen;
                if unseen.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                    return;
                }
                continue;
            }
            let _ = tokio::time::timeout(PAUSE, done).await;
        }
    }

    fn describe(&self) -> Vec<String> {
        match self.pending() {
            0 => Vec::new(),
            rows => vec![format!("the outbox was not seen empty since {rows} rows were recorded")],
        }
    }
}
