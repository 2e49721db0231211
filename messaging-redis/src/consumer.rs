//! [`RedisConsumer`]: the executor's face of a member of a group. Two tasks do the work: the [`reader`](crate::reader)
//! fetches, the [`keeper`](crate::keeper) owns.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use messaging::{
    Consumer, DeadLetterSink, Error, ErrorKind, Intake, Message, PartitionHandle, Position, Settlement, Subscription,
    handoff,
};
use parking_lot::Mutex;
use redis::Value;
use tokio::{sync::oneshot, task::AbortHandle};

use crate::{
    assignment::Assignment,
    entry,
    keeper::{GroupTopic, Keeper},
    keys::dead_letter_key,
    link::{Connector, failed},
    reader::Reader,
    scripts,
    shared::{Event, Shared},
    topics::Topics,
};

/// A member of a group.
pub(crate) struct RedisConsumer {
    shared: Arc<Shared>,
    events: handoff::Receiver<Event>,
    /// Emptied and filled again by each look at the events.
    batch: Vec<Event>,
    held: Vec<Option<Held>>,
    handles: Arc<Handles>,
    drain: Duration,
    tasks: [AbortHandle; 2],
    closed: oneshot::Receiver<Result<(), Error>>,
}

/// A partition that the executor holds.
struct Held {
    handle: PartitionHandle,
    assignment: Arc<Assignment>,
    /// What there was no credit for.
    waiting: VecDeque<(Position, Arc<Message>)>,
}

/// The assignment behind each handle, for dead letters.
type Handles = Mutex<Vec<Option<Arc<Assignment>>>>;

impl RedisConsumer {
    /// Joins the group: connects, and starts both tasks.
    pub(crate) async fn join(
        connector: Arc<Connector>,
        topics: Arc<Topics>,
        of_group: Vec<GroupTopic>,
        subscription: &Subscription,
    ) -> Result<Self, Error> {
        let (sender, events) = handoff::handoff();
        let shared = Arc::new(Shared::new(connector.config.clone(), subscription.group.clone(), sender));
        let (done, closed) = oneshot::channel();
        let reader = Reader::open(shared.clone(), connector.clone()).await?;
        let keeper = Keeper::open(shared.clone(), connector, topics, of_group).await?;
        let tasks = [tokio::spawn(reader.run()).abort_handle(), tokio::spawn(keeper.run(done)).abort_handle()];
        Ok(Self {
            shared,
            events,
            batch: Vec::new(),
            held: Vec::new(),
            handles: Arc::default(),
            drain: subscription.revoke_drain,
            tasks,
            closed,
        })
    }

    fn take(&mut self, event: Event, intake: &mut Intake<'_>) -> Result<(), Error> {
        match event {
            Event::Assigned(assignment, valid_until) => {
                let handle = intake.assigned(&assignment.topic.name, assignment.partition, assignment.epoch);
                intake.renewed(handle, valid_until);
                self.hold(handle, assignment);
            }
            Event::Renewed(assignment, valid_until) => {
                if let Some(held) = self.held(&assignment) {
                    intake.renewed(held.handle, valid_until);
                }
            }
            Event::Entries(assignment, entries) => {
                let shared = self.shared.clone();
                if let Some(held) = self.held(&assignment) {
                    if held.waiting.is_empty() {
                        held.waiting = entries.into();
                    } else {
                        held.waiting.extend(entries);
                    }
                    push(held, intake, &shared);
                }
            }
            Event::Revoked(assignment) => {
                let drain = self.drain;
                if let Some(held) = self.held(&assignment) {
                    held.waiting.clear();
                    intake.revoking(held.handle, drain);
                }
            }
            Event::Lost(assignment) => {
                if let Some(held) = self.held(&assignment) {
                    let handle = held.handle;
                    intake.lost(handle);
                    self.let_go(handle);
                }
            }
            Event::Trimmed { topic, partition, first, count } => intake.trimmed(&topic, partition, first, count),
            Event::Failed(error) => return Err(error),
        }
        Ok(())
    }

    fn hold(&mut self, handle: PartitionHandle, assignment: Arc<Assignment>) {
        let index = handle.index();
        if self.held.len() <= index {
            self.held.resize_with(index + 1, || None);
        }
        assignment.set_handle(index);
        self.handles.lock().resize(self.held.len(), None);
        self.handles.lock()[index] = Some(assignment.clone());
        self.held[index] = Some(Held { handle, assignment, waiting: VecDeque::new() });
    }

    /// What the executor holds of this assignment, unless it has let it go.
    fn held(&mut self, assignment: &Arc<Assignment>) -> Option<&mut Held> {
        let held = self.held.get_mut(assignment.handle()?)?.as_mut()?;
        Arc::ptr_eq(&held.assignment, assignment).then_some(held)
    }

    fn let_go(&mut self, handle: PartitionHandle) -> Option<Held> {
        if let Some(known) = self.handles.lock().get_mut(handle.index()) {
            *known = None;
        }
        self.held.get_mut(handle.index())?.take()
    }
}

/// Hands over what there is credit for.
fn push(held: &mut Held, intake: &mut Intake<'_>, shared: &Shared) -> bool {
    let count = intake.credit(held.handle).min(held.waiting.len());
    for (position, message) in held.waiting.drain(..count) {
        intake.push(held.handle, position, message);
    }
    if held.waiting.is_empty() {
        held.assignment.give_back(std::mem::take(&mut held.waiting).into());
    }
    if held.assignment.taken(count) {
        shared.drained(&held.assignment);
    }
    count > 0
}

impl Consumer for RedisConsumer {
    fn poll_fill(&mut self, cx: &mut Context<'_>, intake: &mut Intake<'_>) -> Poll<Result<(), Error>> {
        let mut brought = false;
        for held in self.held.iter_mut().flatten().filter(|held| !held.waiting.is_empty()) {
            brought |= push(held, intake, &self.shared);
        }
        loop {
            let mut batch = std::mem::take(&mut self.batch);
            match self.events.poll_swap(cx, &mut batch) {
                Poll::Pending => {
                    self.batch = batch;
                    return if brought { Poll::Ready(Ok(())) } else { Poll::Pending };
                }
                Poll::Ready(false) => {
                    let text = "the tasks of a redis consumer have ended without a reason";
                    return Poll::Ready(Err(Error::new(ErrorKind::Internal, text)));
                }
                Poll::Ready(true) => {
                    brought = true;
                    for event in batch.drain(..) {
                        if let Err(error) = self.take(event, intake) {
                            return Poll::Ready(Err(error));
                        }
                    }
                    self.batch = batch;
                }
            }
        }
    }

    fn settle(&mut self, settlement: Settlement<'_>) {
        let Some(Some(held)) = self.held.get(settlement.partition.index()) else { return };
        if held.assignment.epoch == settlement.epoch {
            held.assignment.settle(settlement.finished);
            self.shared.note_settled(settlement.finished.len());
        }
    }

    fn release(&mut self, partition: PartitionHandle) {
        if let Some(held) = self.let_go(partition) {
            held.assignment.release();
            self.shared.keeper.notify_one();
        }
    }

    fn begin_close(&mut self) {
        self.shared.state.lock().stopping = true;
        self.shared.keeper.notify_one();
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let first = !std::mem::replace(&mut self.shared.state.lock().closing, true);
        if first {
            self.shared.keeper.notify_one();
        }
        let closed = ready!(std::pin::Pin::new(&mut self.closed).poll(cx));
        Poll::Ready(closed.unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the keeper of the leases is gone"))))
    }

    fn dead_letters(&self) -> Option<Arc<dyn DeadLetterSink>> {
        Some(Arc::new(RedisDeadLetters { shared: self.shared.clone(), handles: self.handles.clone() }))
    }
}

impl Drop for RedisConsumer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Writes a dead letter beside its partition and settles its message, in one script that only the owner may run.
struct RedisDeadLetters {
    shared: Arc<Shared>,
    handles: Arc<Handles>,
}

#[async_trait]
impl DeadLetterSink for RedisDeadLetters {
    async fn dead_letter(
        &self,
        partition: PartitionHandle,
        epoch: u64,
        position: Position,
        letter: Arc<Message>,
    ) -> Result<(), Error> {
        let unavailable = |text: &str| Error::new(ErrorKind::Unavailable, text);
        let assignment = self.handles.lock().get(partition.index()).cloned().flatten();
        let assignment = assignment
            .filter(|assignment| assignment.epoch == epoch)
            .ok_or_else(|| unavailable("the partition was lost: its owner decides anew"))?;
        let conn = self.shared.settler.lock().clone();
        let mut conn = conn.ok_or_else(|| unavailable("not connected to redis"))?;
        let letters = dead_letter_key(&assignment.stream, &self.shared.group);
        let mut cmd = scripts::DEAD_LETTER.call(&[&assignment.lease, &*assignment.stream, &letters]);
        cmd.arg(&self.shared.id).arg(epoch).arg(self.shared.group.as_str()).arg(entry::id(position));
        entry::write_fields(&letter, &mut cmd);
        match conn.send_packed_command(&cmd).await {
            Ok(Value::Int(_)) => Ok(()),
            Ok(Value::Nil) => Err(unavailable("the lease is another's: its owner decides anew")),
            Ok(Value::ServerError(error)) => Err(failed("writing a dead letter", error.into())),
            Ok(_) => Err(unavailable("the answer to a dead letter is not understood")),
            Err(error) => Err(failed("writing a dead letter", error)),
        }
    }
}
