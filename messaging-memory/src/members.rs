//! [`Group`]s and their [`Member`]s, and the news that waits for each member until its consumer is polled.

use std::{collections::VecDeque, task::Waker, time::Duration};

use messaging::{Name, PartitionHandle, Tick};

/// A group that has subscribed at some time. It stays, with its progress, also when no member is there.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: Name,
    pub(crate) members: Vec<u32>,
    /// A cursor per partition of each subscribed topic.
    pub(crate) cursors: Vec<u32>,
}

/// One consumer.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) group: u32,
    pub(crate) topics: Vec<u32>,
    /// What revoked partitions get for their running handlers.
    pub(crate) drain: Duration,
    /// Its executor sleeps and is to be woken.
    pub(crate) waker: Option<Waker>,
    /// The cursor of each handle.
    pub(crate) handles: Vec<Option<u32>>,
    pub(crate) news: VecDeque<News>,
    /// Cursors with messages to hand over; each once.
    pub(crate) ready: VecDeque<u32>,
    /// It will close: it gets nothing more.
    pub(crate) closing: bool,
    /// As if its process had died.
    pub(crate) crashed: bool,
    /// As if its connection had died without either side noticing: no news reach it, and its lease is not renewed.
    pub(crate) silent: bool,
    /// Its lease has passed; it owns nothing until it is heard of again.
    pub(crate) expired: bool,
    /// When its lease was renewed last, and until when it lasts.
    pub(crate) renewed: Tick,
    pub(crate) valid_until: Tick,
}

/// What a member's executor has to be told.
#[derive(Debug)]
pub(crate) enum News {
    /// The cursor's partition is its own, unless that has changed since.
    Assigned(u32),
    /// The cursor's partition is to be given back.
    Revoking(u32),
    /// Retention took messages of the cursor's partition.
    Trimmed(u32),
    /// The partition is somebody else's already.
    Lost(PartitionHandle),
}

impl Member {
    pub(crate) fn new(group: u32, topics: Vec<u32>, drain: Duration) -> Self {
        Self {
            group,
            topics,
            drain,
            waker: None,
            handles: Vec::new(),
            news: VecDeque::new(),
            ready: VecDeque::new(),
            closing: false,
            crashed: false,
            silent: false,
            expired: false,
            renewed: Tick::default(),
            valid_until: Tick::default(),
        }
    }

    /// The topics of which it may be given partitions.
    pub(crate) fn takes(&self) -> &[u32] {
        if self.closing || self.crashed || self.expired { &[] } else { &self.topics }
    }

    pub(crate) fn cursor(&self, handle: PartitionHandle) -> Option<u32> {
        self.handles.get(handle.index()).copied().flatten()
    }

    pub(crate) fn set_handle(&mut self, handle: PartitionHandle, cursor: u32) {
        let index = handle.index();
        if self.handles.len() <= index {
            self.handles.resize(index + 1, None);
        }
        self.handles[index] = Some(cursor);
    }

    /// Forgets a handle, if it still is this cursor's.
    pub(crate) fn clear_handle(&mut self, handle: PartitionHandle) {
        if let Some(slot) = self.handles.get_mut(handle.index()) {
            *slot = None;
        }
    }
}
