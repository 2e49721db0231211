//! [`Tenure`]: one partition while it is assigned to this member, as the pump keeps it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use messaging::Name;

use super::{inbox::TenureId, standstill::Standstill};
use crate::progress::Progress;

/// How much of one partition lies between the pump and the executor, seen by both.
#[derive(Debug, Default)]
pub(super) struct Flow {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    /// The offset after the last one that the executor took.
    pub(super) taken_before: AtomicU64,
    /// What is finished beyond the watermark nearly fills a commit's metadata: nothing more goes to the executor.
    pub(super) held: AtomicBool,
    /// The pump has stopped fetching and wants to know when there is room.
    pub(super) paused: AtomicBool,
}

impl Flow {
    pub(super) fn add(&self, messages: usize, bytes: usize) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, messages: usize, bytes: usize) {
        self.messages.fetch_sub(messages, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether one of two bounds is reached.
    pub(super) fn exceeds(&self, messages: usize, bytes: usize) -> bool {
        self.messages.load(Ordering::Relaxed) >= messages || self.bytes.load(Ordering::Relaxed) >= bytes
    }
}

/// Where a tenure stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// Assigned, but it is not known yet where to begin; tried at this time.
    Adopting { at: Instant },
    /// The executor has it.
    Held,
    /// The coordinator wants it back, and the executor is draining it.
    Draining,
    /// Drained. Waits to be committed and given up, or, if nobody asked for it, to be adopted again.
    Drained,
}

/// One partition while it is assigned to this member.
#[derive(Debug)]
pub(super) struct Tenure {
    pub(super) id: TenureId,
    pub(super) topic: Name,
    pub(super) partition: i32,
    pub(super) phase: Phase,
    pub(super) progress: Progress,
    pub(super) flow: Arc<Flow>,
    /// Something is finished that was not sent to the broker.
    pub(super) dirty: bool,
    /// librdkafka does not fetch.
    pub(super) paused: bool,
    /// Handed over since the flow was told: messages and bytes.
    pub(super) untold: (usize, usize),
    /// Nothing comes, though the log goes on.
    pub(super) standstill: Option<Standstill>,
}

impl Tenure {
    pub(super) fn new(slot: u32, topic: Name, partition: i32) -> Self {
        Self {
            id: TenureId { slot, epoch: 0 },
            topic,
            partition,
            phase: Phase::Adopting { at: Instant::now() },
            progress: Progress::default(),
            flow: Arc::default(),
            dirty: false,
            paused: false,
            untold: (0, 0),
            standstill: None,
        }
    }

    pub(super) fn is(&self, topic: &str, partition: i32) -> bool {
        self.partition == partition && self.topic.as_str() == topic
    }

    /// Whether the executor has it.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.phase, Phase::Held)
    }

    /// Whether what is finished on it is still ours to commit.
    pub(super) fn is_adopted(&self) -> bool {
        !matches!(self.phase, Phase::Adopting { .. })
    }
}

/// All partitions that are assigned to this member.
#[derive(Debug, Default)]
pub(super) struct Tenures {
    slots: Vec<Option<Tenure>>,
    /// Where the last message's partition was found.
    last: usize,
}

impl Tenures {
    /// Takes a partition in, under the first free slot.
    pub(super) fn insert(&mut self, topic: Name, partition: i32) {
        let slot = self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(Tenure::new(slot as u32, topic, partition));
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Tenure> {
        self.slots.get_mut(slot as usize)?.take()
    }

    /// The tenure that `id` names, if it has not ended.
    pub(super) fn get_mut(&mut self, id: TenureId) -> Option<&mut Tenure> {
        self.slots.get_mut(id.slot as usize)?.as_mut().filter(|tenure| tenure.id == id)
    }

    pub(super) fn slot_mut(&mut self, slot: u32) -> Option<&mut Tenure> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The tenure of a partition; messages come in long runs of one.
    pub(super) fn find_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Tenure> {
        let is = |slot: &Option<Tenure>| slot.as_ref().is_some_and(|tenure| tenure.is(topic, partition));
        if !self.slots.get(self.last).is_some_and(is) {
            self.last = self.slots.iter().position(is)?;
        }
        self.slots[self.last].as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Tenure> {
        self.slots.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Tenure> {
        self.slots.iter_mut().flatten()
    }

    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }
}
