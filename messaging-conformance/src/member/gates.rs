//! [`Gates`]: handlers wait before them until the test opens them, for one member or for all of this process.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Gates {
    open: Mutex<HashSet<String>>,
    changed: Notify,
    /// Those of all members, which open here too.
    common: Option<Arc<Gates>>,
}

impl Gates {
    /// One member's, which open with the common ones too.
    pub(crate) fn of_member(common: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self { common: Some(common.clone()), ..Self::default() })
    }

    pub(crate) fn open(&self, gate: &str) {
        self.open.lock().insert(gate.to_owned());
        self.changed.notify_waiters();
    }

    pub(crate) async fn pass(&self, gate: &str) {
        match &self.common {
            None => self.pass_here(gate).await,
            Some(common) => tokio::select! {
                () = self.pass_here(gate) => {}
                () = common.pass_here(gate) => {}
            },
        }
    }

    async fn pass_here(&self, gate: &str) {
        loop {
            let changed = self.changed.notified();
            if self.open.lock().contains(gate) {
                return;
            }
            changed.await;
        }
    }
}
