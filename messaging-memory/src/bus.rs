//! [`Bus`]: what every handle, publisher and consumer of one broker shares, behind one lock.

use std::sync::Arc;

use hashbrown::HashMap;
use messaging::{Capabilities, EventId, Message, Name, PartitionHandle, Start, TokioClock};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    config::Settings,
    cursor::Cursor,
    effects::Effects,
    faults::Faults,
    foreign,
    members::{Group, Member, News},
    settling::Settling,
    topics::Topic,
};

pub(crate) struct Bus {
    pub(crate) settings: Settings,
    pub(crate) capabilities: Capabilities,
    pub(crate) clock: TokioClock,
    /// Tells this bus from every other, those of earlier processes among them.
    pub(crate) log: Name,
    /// Told whenever nothing is pending any more.
    pub(crate) idle: Notify,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) settings: Settings,
    /// The length from which on a partition is trimmed.
    pub(crate) trim_at: usize,
    pub(crate) topics: Vec<Topic>,
    topic_names: HashMap<Name, u32>,
    /// The last message's topic; the next one's is usually the same.
    last_topic: u32,
    pub(crate) groups: Vec<Group>,
    /// By their number, which is never used again.
    pub(crate) members: Vec<Option<Box<Member>>>,
    pub(crate) cursors: Vec<Cursor>,
    pub(crate) settling: Settling,
    pub(crate) faults: Faults,
    /// (group, message) pairs that are not settled.
    pub(crate) pending: u64,
    /// Messages so far, over all topics.
    sequence: u64,
}

/// Where a message was stored, and the message that went for it.
pub(crate) struct Appended {
    pub(crate) partition: u32,
    pub(crate) position: u64,
    pub(crate) retired: Option<Arc<Message>>,
}

impl Bus {
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        let state = State {
            trim_at: settings.trim_at(),
            settings: settings.clone(),
            topics: Vec::new(),
            topic_names: HashMap::new(),
            last_topic: 0,
            groups: Vec::new(),
            members: Vec::new(),
            cursors: Vec::new(),
            settling: Settling::default(),
            faults: Faults::default(),
            pending: 0,
            sequence: 0,
        };
        Arc::new(Self {
            capabilities: settings.capabilities(),
            settings,
            clock: TokioClock::new(),
            log: Name::from(EventId::generate().to_string()),
            idle: Notify::new(),
            state: Mutex::new(state),
        })
    }

    /// Does something under the lock, and what follows from it after the lock.
    #[inline]
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        let mut effects = Effects::default();
        let result = act(&mut self.state.lock(), &mut effects);
        if effects.is_idle() {
            self.idle.notify_waiters();
        }
        effects.run();
        result
    }

    /// Looks at the state.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.state.lock())
    }
}

impl State {
    pub(crate) fn find_topic(&self, name: &str) -> Option<u32> {
        self.topic_names.get(name).copied()
    }

    /// The topic of this name, made if it is missing.
    #[inline]
    pub(crate) fn topic(&mut self, name: &Name) -> u32 {
        match self.topics.get(self.last_topic as usize) {
            Some(topic) if topic.name == *name => self.last_topic,
            _ => {
                let topic = self.find_topic(name).unwrap_or_else(|| self.add_topic(name, self.settings.partitions));
                self.last_topic = topic;
                topic
            }
        }
    }

    pub(crate) fn add_topic(&mut self, name: &Name, partitions: u32) -> u32 {
        let index = self.topics.len() as u32;
        self.topics.push(Topic::new(name.clone(), partitions));
        self.topic_names.insert(name.clone(), index);
        index
    }

    /// Stores a message and makes it known to the groups.
    #[inline(always)]
    pub(crate) fn append(&mut self, topic: u32, message: Arc<Message>, effects: &mut Effects) -> Appended {
        let Self { topics, cursors, members, sequence, pending, trim_at, .. } = self;
        let owner = &mut topics[topic as usize];
        let number = owner.choose(message.key.as_deref());
        let partition = &mut owner.partitions[number as usize];
        *sequence += 1;
        let position = partition.log.push(*sequence, foreign::as_read(message));
        let mut settled = position + 1;
        for id in &partition.cursors {
            let cursor = &mut cursors[*id as usize];
            *pending += 1;
            settled = settled.min(cursor.progress.floor());
            if std::mem::take(&mut cursor.listening)
                && let Some(owner) = cursor.owner
                && let Some(member) = &mut members[owner as usize]
            {
                member.ready.push_back(*id);
                effects.wake(member.waker.take());
            }
        }
        let mut retired = None;
        if partition.log.len() > *trim_at {
            // Usually one goes for one that comes.
            if partition.log.len() == *trim_at + 1 && settled > partition.log.base() {
                retired = partition.log.pop_front();
            } else {
                self.trim(topic, number, effects);
            }
        }
        Appended { partition: number, position, retired }
    }

    /// The group of this name, made if it is missing.
    pub(crate) fn group(&mut self, name: &Name) -> u32 {
        match self.find_group(name) {
            Some(group) => group,
            None => {
                self.groups.push(Group { name: name.clone(), members: Vec::new(), cursors: Vec::new() });
                self.groups.len() as u32 - 1
            }
        }
    }

    pub(crate) fn find_group(&self, name: &str) -> Option<u32> {
        self.groups.iter().position(|group| group.name == *name).map(|index| index as u32)
    }

    /// Gives the group a cursor on every partition of the topic on which it has none. A group that has cursors on the
    /// topic finds further partitions from their beginning.
    pub(crate) fn subscribe(&mut self, group: u32, topic: u32, start: Start) {
        let known = |state: &Self, partition: u32| {
            let cursors = &state.groups[group as usize].cursors;
            cursors.iter().any(|id| {
                let cursor = &state.cursors[*id as usize];
                cursor.topic == topic && cursor.partition == partition
            })
        };
        let start = if known(self, 0) { Start::Default } else { start };
        for number in 0..self.topics[topic as usize].count() {
            if known(self, number) {
                continue;
            }
            let id = self.cursors.len() as u32;
            let partition = &mut self.topics[topic as usize].partitions[number as usize];
            let cursor = Cursor::new(group, topic, number, start, &partition.log);
            self.pending += cursor.pending(&partition.log).0;
            partition.cursors.push(id);
            self.cursors.push(cursor);
            self.groups[group as usize].cursors.push(id);
        }
    }

    /// The partition that a member's executor means by a handle, if the member has it still, and under this epoch.
    #[inline]
    pub(crate) fn held(&self, member: u32, handle: PartitionHandle, epoch: u64) -> Option<u32> {
        let id = self.members[member as usize].as_ref()?.cursor(handle)?;
        let cursor = &self.cursors[id as usize];
        (cursor.owner == Some(member) && cursor.epoch == epoch).then_some(id)
    }

    pub(crate) fn tell(&mut self, member: u32, news: News, effects: &mut Effects) {
        if let Some(member) = &mut self.members[member as usize] {
            member.news.push_back(news);
            effects.wake(member.waker.take());
        }
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("settings", &self.settings).finish_non_exhaustive()
    }
}
