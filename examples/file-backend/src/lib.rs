//! An example of a backend: topics in files of a folder, for one process.
//!
//! What a backend is takes four traits: [`Broker`] and [`Admin`] here, [`Publisher`] here as well, [`Consumer`] in
//! `consumer`. That it keeps the contract is shown by `tests/conformance.rs`, which runs the public suite over it.
//!
//! It declares what files in one process can do. [`retains_history`](Capabilities::retains_history): they keep everything.
//! Not `durable`, as nothing waits for the disk, and a machine that loses power may lose what was confirmed. No fences and no
//! fenced dead letters, as one process has nobody to fence off. A group that requires one of these is refused by name.

mod consumer;
mod groups;
mod log;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use messaging::{
    Address, Admin, Backend, Batch, Broker, Capabilities, Consumer, Delivery, Error, ErrorKind, GroupProgress, Name,
    Outcome, Position, Publisher, PublisherOptions, Subscription, TopicInfo, TopicSpec, validate_name,
};

use crate::consumer::FileConsumer;
use crate::store::{Store, failed};

const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// Opens the folder that an address names: `file:///var/lib/orders`, or `file://orders` in the working directory.
#[derive(Clone, Copy, Debug)]
pub struct FileBackend;

#[async_trait]
impl Backend for FileBackend {
    fn schemes(&self) -> &'static [&'static str] {
        &["file"]
    }

    async fn connect(&self, address: &Address) -> Result<Arc<dyn Broker>, Error> {
        address.options().finish()?;
        Ok(Arc::new(FileBroker::open(format!("{}/{}", address.hosts.join(","), address.path))?))
    }
}

/// A folder that is open; clones share it.
#[derive(Clone, Debug)]
pub struct FileBroker {
    store: Arc<Store>,
    capabilities: Capabilities,
}

impl FileBroker {
    /// Opens or makes a folder.
    ///
    /// # Errors
    /// It is open already, here or in another process, or its files cannot be used.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let mut capabilities = Capabilities::none(MAX_MESSAGE_BYTES);
        capabilities.retains_history = true;
        Ok(Self { store: Store::open(&folder.into())?, capabilities })
    }
}

#[async_trait]
impl Broker for FileBroker {
    fn name(&self) -> &'static str {
        "file"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn publisher(&self, _: PublisherOptions) -> Result<Arc<dyn Publisher>, Error> {
        Ok(Arc::new(FilePublisher { store: self.store.clone(), closed: AtomicBool::new(false) }))
    }

    async fn consumer(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, Error> {
        Ok(Box::new(FileConsumer::join(&self.store, subscription)?))
    }

    fn admin(&self) -> Arc<dyn Admin> {
        Arc::new(FileAdmin(self.store.clone()))
    }

    /// Topics are never deleted, so that a position names one message for ever.
    fn log(&self, _: &str) -> Option<Name> {
        Some(self.store.id.clone())
    }

    async fn ping(&self, _: Duration) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self, _: Duration) -> Result<(), Error> {
        Ok(())
    }
}

struct FilePublisher {
    store: Arc<Store>,
    closed: AtomicBool,
}

#[async_trait]
impl Publisher for FilePublisher {
    /// Writes at once: what is written goes to the system's memory, and to the disk later.
    fn send(&self, mut batch: Batch) {
        for index in 0..batch.len() {
            let outcome = if self.closed.load(Ordering::Acquire) {
                Outcome::Rejected(Error::new(ErrorKind::Closed, "the publisher is closed"))
            } else {
                self.store.publish(batch.message(index))
            };
            batch.complete(index, outcome);
        }
    }

    fn depth(&self) -> usize {
        1
    }

    async fn close(&self, _: Duration) -> Result<(), Error> {
        self.closed.store(true, Ordering::Release);
        Ok(())
    }
}

struct FileAdmin(Arc<Store>);

#[async_trait]
impl Admin for FileAdmin {
    async fn describe(&self, topic: &str) -> Result<Option<TopicInfo>, Error> {
        validate_name("topic", topic)?;
        let found = self.0.state.lock().topics.find(&self.0, &topic.into())?.map(|found| found.count());
        Ok(found.map(|partitions| TopicInfo::new(topic, partitions)))
    }

    async fn ensure_topic(&self, topic: &str, spec: &TopicSpec) -> Result<TopicInfo, Error> {
        validate_name("topic", topic)?;
        let (name, wanted) = (Name::from(topic), spec.partitions);
        let topics = &mut self.0.state.lock().topics;
        if wanted > 0 && topics.find(&self.0, &name)?.is_none() {
            topics.create(&self.0, &name, wanted)?;
        }
        let there = topics.find(&self.0, &name)?.map_or(0, |found| found.count());
        if there != wanted || wanted == 0 {
            let message = format!("topic {topic:?} has {there} partitions, not {wanted}");
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(TopicInfo::new(name, there))
    }

    async fn progress(&self, group: &str, topic: &str) -> Result<Vec<GroupProgress>, Error> {
        let state = self.0.state.lock();
        let (Some(group), Some(logs)) = (state.groups.get(group), state.topics.get(topic)) else {
            return Ok(Vec::new());
        };
        let rows = group.shares_of(topic).map(|share| {
            let (done, end) = (&share.progress, logs.partitions[share.partition as usize].end());
            let watermark = done.floor.checked_sub(1).map(Position::new);
            let lag = end - done.floor - done.beyond.len() as u64;
            GroupProgress::new(topic.into(), share.partition, watermark, lag)
        });
        Ok(rows.collect())
    }

    async fn browse(&self, topic: &str, partition: u32, from: Position, limit: usize) -> Result<Vec<Delivery>, Error> {
        let mut state = self.0.state.lock();
        let missing = || Error::new(ErrorKind::Config, format!("there is no partition {partition} of topic {topic:?}"));
        let found = state.topics.find(&self.0, &topic.into())?.ok_or_else(missing)?;
        let log = found.partitions.get(partition as usize).ok_or_else(missing)?;
        let read = |position: u64| {
            let mut delivery = Delivery::new(log.read(&topic.into(), position).map_err(failed)?);
            (delivery.partition, delivery.position) = (partition, Position::new(position));
            Ok(delivery)
        };
        (from.major..log.end()).take(limit).map(read).collect()
    }
}
