//! [`Gates`]: handlers wait before them until the test opens them.

use std::collections::HashSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Gates {
    open: Mutex<HashSet<String>>,
    changed: Notify,
}

impl Gates {
    pub(crate) fn open(&self, gate: &str) {
        self.open.lock().insert(gate.to_owned());
        self.changed.notify_waiters();
    }

    pub(crate) async fn pass(&self, gate: &str) {
        loop {
            let changed = self.changed.notified();
            if self.open.lock().contains(gate) {
                return;
            }
            changed.await;
        }
    }
}
