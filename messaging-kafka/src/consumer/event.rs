//! [`Event`]: what the pump tells the executor's side, through the hand-off.

use std::sync::Arc;

use messaging::{Error, Message, Name, Tick};

use super::{inbox::TenureId, tenure::Flow};

/// What has happened, in its order.
#[derive(Debug)]
pub(super) enum Event {
    /// A message of the tenure in this slot.
    Message { slot: u32, offset: u64, message: Arc<Message> },
    /// A partition is ours.
    Assigned(Box<Assigned>),
    /// The coordinator wants it back.
    Revoking(TenureId),
    /// It is gone.
    Lost(TenureId),
    /// All partitions are ours until then.
    Renewed(Tick),
    /// Messages were gone before the group got them.
    Trimmed(Box<Trimmed>),
    /// Nothing can be done any more.
    Failed(Error),
    /// The group was left; an error if the last commit did not succeed.
    Closed(Result<(), Error>),
}

#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) id: TenureId,
    pub(super) topic: Name,
    pub(super) partition: u32,
    pub(super) valid_until: Tick,
    pub(super) flow: Arc<Flow>,
}

#[derive(Debug)]
pub(super) struct Trimmed {
    pub(super) topic: Name,
    pub(super) partition: u32,
    pub(super) first: u64,
    pub(super) count: u64,
}
