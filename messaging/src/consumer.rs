//! [`Consumer`]: what a backend implements to hand messages to a group, and the [`Intake`] it hands them to.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    delivery::Position,
    engine::{Engine, Incoming},
    error::Error,
    executor::{Assignments, Trouble},
    message::Message,
    name::Name,
    time::Tick,
};

/// One instance of a group on one backend.
///
/// The executor polls it; a backend with a thread or task of its own hands over through
/// [`handoff`](crate::handoff). Nothing here may block or wait.
///
/// # What an implementation promises
/// - Deliveries of a partition are pushed in the order of its log, each once per assignment.
/// - A partition has one owner at a time among the live instances of a group: `assigned` is said only after the owner
///   before has released it, or its validity has lapsed.
/// - Epochs of a partition never decrease from owner to owner.
/// - It heals by itself: a lost connection is re-opened with back-off, and what was unsettled is handed over again. An
///   error from [`poll_fill`](Self::poll_fill) is for good and ends the group's executor.
pub trait Consumer: Send + 'static {
    /// Hands over what there is, at most each partition's [`credit`](Intake::credit), and what has happened to the
    /// assignment; cancel-safe by construction.
    ///
    /// `Pending`, after registering the waker, once nothing more can be handed over for now: also if something just
    /// was, and if credit is what is missing. It is called again after credit has grown, without a wake-up. `Ready` asks
    /// to be called again before the executor rests, for one that hands over only so much at a time.
    ///
    /// # Errors
    /// What cannot be healed: the group's executor ends with it.
    fn poll_fill(&mut self, cx: &mut Context<'_>, intake: &mut Intake<'_>) -> Poll<Result<(), Error>>;

    /// These deliveries need not come back. Takes note; what is noted goes to the broker with the next fetch, or
    /// within 100 ms. Of a partition that was lost, or under an older epoch, it has no effect.
    fn settle(&mut self, settlement: Settlement<'_>);

    /// Nothing of this partition runs any more, and the last of it was settled: settle it at the broker, then let it
    /// go. Its handle is void afterwards. If the broker did not ask for it by
    /// [`revoking`](Intake::revoking), the partition may be assigned again, to any instance that is not
    /// [closing](Self::begin_close).
    fn release(&mut self, partition: PartitionHandle);

    /// The instance will close soon: nothing more is to be assigned to it, and what it releases goes to others. It is
    /// polled on while running handlers end, so that its assignments stay valid.
    fn begin_close(&mut self);

    /// Settles what was noted, leaves the group and closes; all partitions were released before.
    ///
    /// # Errors
    /// If the broker could not be told: unsettled messages come back.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;

    /// The way to dead-letter and settle in one fenced step, if the backend has one; otherwise dead letters are
    /// published, and then settled.
    fn dead_letters(&self) -> Option<Arc<dyn DeadLetterSink>> {
        None
    }
}

/// Writes a dead letter and settles its message in one step, fenced by the epoch.
#[async_trait]
pub trait DeadLetterSink: Send + Sync {
    /// Writes `letter`, and settles the message at `position`.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`](crate::ErrorKind::Rejected) if the letter was refused for good, so that a smaller one is
    /// to be tried; anything else is tried again.
    async fn dead_letter(
        &self,
        partition: PartitionHandle,
        epoch: u64,
        position: Position,
        letter: Arc<Message>,
    ) -> Result<(), Error>;
}

/// Names one assignment of one partition, from [`Intake::assigned`] to [`Consumer::release`] or [`Intake::lost`].
///
/// A small number, used again after that: fit to index a `Vec`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PartitionHandle(pub(crate) u32);

impl PartitionHandle {
    /// The number.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Deliveries of one partition that were finished since the last settlement.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Settlement<'a> {
    /// The partition.
    pub partition: PartitionHandle,
    /// The epoch under which they were delivered.
    pub epoch: u64,
    /// Each position that was finished, in the order of finishing.
    pub finished: &'a [Position],
    /// Everything delivered under this assignment up to here, inclusive, is finished.
    pub through: Option<Position>,
}

impl<'a> Settlement<'a> {
    pub(crate) fn new(partition: u32, epoch: u64, finished: &'a [Position], through: Option<Position>) -> Self {
        Self { partition: PartitionHandle(partition), epoch, finished, through }
    }
}

/// Where a consumer puts its deliveries and says what happened to its assignment.
pub struct Intake<'a> {
    pub(crate) engine: &'a mut Engine<Arc<Message>, Trouble>,
    pub(crate) assignments: &'a mut Assignments,
    /// The present time on the executor's clock.
    pub(crate) now: Tick,
}

impl Intake<'_> {
    /// This partition is ours now, under this epoch. Nothing of it may be running in an owner before.
    pub fn assigned(&mut self, topic: &Name, partition: u32, epoch: u64) -> PartitionHandle {
        let handle = self.engine.assign(partition, epoch, self.assignments.topic_index(topic));
        self.assignments.set(handle, topic, partition, epoch);
        PartitionHandle(handle)
    }

    /// Handlers of this partition may start until `valid_until` on the broker's [`clock`](crate::Broker::clock): the
    /// time at which the last successful renewal was *sent*, and the shortest time after which the broker gives the
    /// partition to another, less a margin. Without any call there is no such limit.
    pub fn renewed(&mut self, partition: PartitionHandle, valid_until: Tick) {
        self.engine.renew(partition.0, valid_until);
        self.assignments.gated = true;
    }

    /// How many deliveries of this partition may be pushed now; the only word of back-pressure.
    #[must_use]
    pub fn credit(&self, partition: PartitionHandle) -> usize {
        self.engine.credit(partition.0)
    }

    /// Hands over one delivery, within the credit.
    #[inline]
    pub fn push(&mut self, partition: PartitionHandle, position: Position, message: Arc<Message>) {
        self.push_again(partition, position, message, 0);
    }

    /// Hands over one delivery that was in a handler when `deaths` processes before ended uncleanly
    /// ([`counts_deaths`](crate::Capabilities::counts_deaths)).
    #[inline]
    pub fn push_again(&mut self, partition: PartitionHandle, position: Position, message: Arc<Message>, deaths: u32) {
        let key = message.key.as_ref().filter(|_| !self.assignments.unordered);
        let lane = key.map(|key| self.assignments.lane(partition.0, key));
        let bytes = message.weight();
        self.engine.push(partition.0, Incoming { position, lane, bytes, deaths, item: message });
    }

    /// The broker wants the partition back from a live owner. Running handlers get until `drain` from now; then
    /// [`Consumer::release`] is called.
    pub fn revoking(&mut self, partition: PartitionHandle, drain: Duration) {
        self.engine.revoke(partition.0, self.now + drain);
    }

    /// The partition is somebody else's, or nobody's, already: what runs is cancelled, nothing is settled,
    /// [`Consumer::release`] is not called, the handle is void.
    pub fn lost(&mut self, partition: PartitionHandle) {
        self.engine.lose(partition.0);
    }

    /// Messages that the group never got are gone (retention, deletion): from `first` on, `count` of them if known.
    /// Reported and counted as lost.
    pub fn trimmed(&mut self, topic: &Name, partition: u32, first: Position, count: Option<u64>) {
        self.assignments.trimmed(topic, partition, first, count);
    }
}

impl std::fmt::Debug for Intake<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("engine", &self.engine).finish()
    }
}
