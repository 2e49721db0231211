//! [`Shared`]: what a consumer, its reader and its keeper have in common, and the [`Event`]s that go to the consumer.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use messaging::{Error, Message, Name, Position, Tick, handoff};
use parking_lot::Mutex;
use redis::{Cmd, aio::MultiplexedConnection};
use tokio::sync::Notify;

use crate::{assignment::Assignment, config::RedisConfig, link::ClientId};

/// The name under which every owner of a partition reads it. What one leaves unsettled is the next one's at once; who the
/// owner is stands in the lease.
pub(crate) const CONSUMER: &str = "owner";
/// At most so many entries are asked for of a stream of which nothing was read yet: they may be larger than those that
/// were looked at.
const FIRST_COUNT: usize = 128;
/// So many settled positions are sent without waiting for more.
const MANY_SETTLED: usize = 2_048;

/// What the tasks tell the consumer, in this order.
pub(crate) enum Event {
    Assigned(Arc<Assignment>, Tick),
    Renewed(Arc<Assignment>, Tick),
    Entries(Arc<Assignment>, Vec<(Position, Arc<Message>)>),
    /// Another instance is to have it.
    Revoked(Arc<Assignment>),
    Lost(Arc<Assignment>),
    Trimmed {
        topic: Name,
        partition: u32,
        first: Position,
        count: Option<u64>,
    },
    /// It cannot go on.
    Failed(Error),
}

pub(crate) struct Shared {
    pub(crate) config: Arc<RedisConfig>,
    pub(crate) group: Name,
    /// Names this instance: random, so that no other has it.
    pub(crate) id: String,
    events: handoff::Sender<Event>,
    /// Wakes the keeper.
    pub(crate) keeper: Notify,
    /// Wakes the reader, and ends what it waits for at the server.
    pub(crate) reader: Notify,
    /// The reader left out partitions because the executor has not taken what it got last.
    starved: AtomicBool,
    unsettled: AtomicUsize,
    /// The largest entry seen when partitions were opened.
    weight: AtomicUsize,
    pub(crate) state: Mutex<State>,
    /// The keeper's connection, for what cannot wait for its turn.
    pub(crate) settler: Mutex<Option<MultiplexedConnection>>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) owned: Vec<Arc<Assignment>>,
    /// What the read at the server includes.
    pub(crate) reading: Vec<Arc<Assignment>>,
    /// The reader's connection.
    pub(crate) reader: Option<ClientId>,
    /// It stands in every lease, so that a successor can end it.
    pub(crate) reader_registered: bool,
    /// Connections of ours that are lost to us and may live at the server.
    pub(crate) undead: Vec<ClientId>,
    /// A stream or group may be gone.
    pub(crate) look_now: bool,
    /// The executor wants no more partitions.
    pub(crate) stopping: bool,
    /// The executor has let everything go.
    pub(crate) closing: bool,
}

impl Shared {
    pub(crate) fn new(config: Arc<RedisConfig>, group: Name, events: handoff::Sender<Event>) -> Self {
        Self {
            config,
            group,
            id: format!("{:032x}", fastrand::u128(..)),
            events,
            keeper: Notify::new(),
            reader: Notify::new(),
            starved: AtomicBool::new(false),
            unsettled: AtomicUsize::new(0),
            weight: AtomicUsize::new(0),
            state: Mutex::default(),
            settler: Mutex::default(),
        }
    }

    pub(crate) fn tell(&self, event: Event) {
        self.events.send_one(event);
    }

    /// Entries may be so large.
    pub(crate) fn note_weight(&self, bytes: usize) {
        self.weight.fetch_max(bytes, Ordering::AcqRel);
    }

    /// How many entries to ask for at first, of so many streams, before any was read.
    pub(crate) fn first_count(&self, streams: usize) -> usize {
        let weight = self.weight.load(Ordering::Acquire).max(1);
        (self.config.fetch_bytes / weight / streams.max(1)).clamp(1, self.config.fetch.min(FIRST_COUNT))
    }

    /// Positions were settled; the keeper is woken at the first, and when there are many.
    pub(crate) fn note_settled(&self, count: usize) {
        let before = self.unsettled.fetch_add(count, Ordering::AcqRel);
        if before == 0 || (before < MANY_SETTLED && before + count >= MANY_SETTLED) {
            self.keeper.notify_one();
        }
    }

    /// How many positions wait to be settled.
    pub(crate) fn to_settle(&self) -> usize {
        self.unsettled.load(Ordering::Acquire)
    }

    pub(crate) fn has_many_to_settle(&self) -> bool {
        self.to_settle() >= MANY_SETTLED
    }

    pub(crate) fn settled(&self, count: usize) {
        self.unsettled.fetch_sub(count, Ordering::AcqRel);
    }

    /// The executor has taken all that an assignment had for it.
    pub(crate) fn drained(&self, assignment: &Assignment) {
        if !assignment.is_live() {
            self.keeper.notify_one();
        }
        if self.starved.swap(false, Ordering::AcqRel) {
            self.reader.notify_one();
        }
    }

    /// What is to be read now, and whether some partitions are left out until the executor has taken what it got. Is
    /// noted as being read.
    pub(crate) fn begin_read(&self) -> (Vec<Arc<Assignment>>, bool) {
        let mut state = self.state.lock();
        if !state.reader_registered {
            return (Vec::new(), false);
        }
        // Before looking, so that whoever drains after the look sees it.
        self.starved.store(true, Ordering::SeqCst);
        let live = state.owned.iter().filter(|assignment| assignment.is_live());
        let (waiting, ready): (Vec<_>, Vec<_>) = live.cloned().partition(|assignment| assignment.is_waiting());
        if waiting.is_empty() {
            self.starved.store(false, Ordering::SeqCst);
        }
        state.reading.clone_from(&ready);
        (ready, !waiting.is_empty())
    }

    /// The read has ended.
    pub(crate) fn end_read(&self) {
        let mut state = self.state.lock();
        let awaited = state.reading.drain(..).any(|assignment| !assignment.is_live());
        drop(state);
        if awaited {
            self.keeper.notify_one();
        }
    }

    /// The reader has a connection.
    pub(crate) fn reader_up(&self, client: ClientId) {
        let mut state = self.state.lock();
        state.reader = Some(client);
        state.reader_registered = false;
        drop(state);
        self.keeper.notify_one();
    }

    /// The reader's connection is lost: what it was sent last may have been delivered.
    pub(crate) fn reader_down(&self) {
        let mut state = self.state.lock();
        let lost = state.reader.take();
        state.undead.extend(lost);
        state.reader_registered = false;
        state.reading.clear();
        state.owned.iter().for_each(|assignment| assignment.cursor.lock().reclaim());
        drop(state);
        self.keeper.notify_one();
    }

    /// Ends a read that waits at the server, soon; without an answer.
    pub(crate) async fn unblock(&self, reader: &ClientId) {
        let conn = self.settler.lock().clone();
        if let Some(mut conn) = conn {
            let mut cmd = Cmd::new();
            cmd.arg("CLIENT").arg("UNBLOCK").arg(reader.number).set_no_response(true);
            // If it does not get through, the read ends by itself.
            let _ = conn.send_packed_command(&cmd).await;
        }
    }

    /// Whether the keeper has something to do at once, beside settling.
    pub(crate) fn has_errands(&self) -> bool {
        let state = self.state.lock();
        state.closing
            || state.look_now
            || !state.undead.is_empty()
            || (state.reader.is_some() && !state.reader_registered)
            || state.owned.iter().any(|assignment| {
                assignment.is_released()
                    || assignment.has_regressed()
                    || assignment.to_claim().is_some()
                    || assignment.cursor.lock().ledger.is_long()
            })
    }

    /// Whether nothing of ours may still read this stream at the server.
    pub(crate) fn is_quiet(&self, stream: &str) -> bool {
        let state = self.state.lock();
        state.undead.is_empty() && !state.reading.iter().any(|assignment| &*assignment.stream == stream)
    }
}
