//! A folder of topics, open in this process alone: `TOPIC/PARTITION.log`, and `TOPIC/GROUP/PARTITION` for progress.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use messaging::{
    Error, ErrorKind, EventId, Message, Name, Outcome, Position, Receipt, TopicSpec, partition_for_key, validate_name,
};
use parking_lot::Mutex;

use crate::groups::Group;
use crate::log::Log;

#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    /// Tells this folder from every other.
    pub(crate) id: Name,
    /// Above every epoch of the processes before.
    pub(crate) epoch: u64,
    pub(crate) state: Mutex<State>,
    /// Locked while the folder is open.
    _lock: File,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) topics: Topics,
    pub(crate) groups: BTreeMap<Name, Group>,
    /// How many members there have been.
    pub(crate) members: u32,
}

/// The topics that were used since the folder was opened.
#[derive(Debug, Default)]
pub(crate) struct Topics(BTreeMap<Name, Topic>);

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) partitions: Vec<Log>,
    /// Where the next message without a key goes.
    next: u32,
}

impl Store {
    /// Opens or makes the folder.
    pub(crate) fn open(folder: &Path) -> Result<Arc<Self>, Error> {
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::create(folder.join(".lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::new(ErrorKind::Config, format!("{}: open already", folder.display())),
            TryLockError::Error(error) => failed(error),
        })?;
        let id = folder.join(".id");
        if !id.exists() {
            fs::write(&id, EventId::generate().to_string()).map_err(failed)?;
        }
        let id = Name::from(fs::read_to_string(&id).map_err(failed)?);
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Arc::new(Self { folder: folder.to_owned(), id, epoch, state: Mutex::default(), _lock: lock }))
    }

    /// Where a group's progress on a partition is.
    pub(crate) fn progress(&self, topic: &Name, group: &Name, partition: u32) -> PathBuf {
        self.folder.join(topic.as_str()).join(group.as_str()).join(partition.to_string())
    }

    /// Stores a message, and lets the groups of its topic know.
    pub(crate) fn publish(&self, message: &Message) -> Outcome {
        let state = &mut *self.state.lock();
        let stored = state.topics.get_or_create(self, &message.topic).and_then(|topic| topic.append(message));
        match stored {
            Ok(receipt) => {
                let groups = state.groups.values_mut().filter(|group| group.topics.contains(&message.topic));
                groups.for_each(Group::wake);
                Outcome::Confirmed(receipt)
            }
            // The record is no part of the log, even if some of it was written.
            Err(error) => Outcome::Rejected(error),
        }
    }
}

impl Topics {
    pub(crate) fn get(&self, name: &str) -> Option<&Topic> {
        self.0.get(name)
    }

    /// The topic if there is one, also from earlier processes.
    pub(crate) fn find(&mut self, store: &Store, name: &Name) -> Result<Option<&mut Topic>, Error> {
        let folder = store.folder.join(name.as_str());
        let log = |partition: u32| folder.join(format!("{partition}.log"));
        if !self.0.contains_key(name) {
            let paths = (0..).map(log).take_while(|path| path.exists());
            let partitions = paths.map(|path| Log::open(&path)).collect::<io::Result<Vec<_>>>().map_err(failed)?;
            if !partitions.is_empty() {
                self.0.insert(name.clone(), Topic { partitions, next: 0 });
            }
        }
        Ok(self.0.get_mut(name))
    }

    pub(crate) fn create(&mut self, store: &Store, name: &Name, partitions: u32) -> Result<(), Error> {
        validate_name("topic", name)?;
        let folder = store.folder.join(name.as_str());
        fs::create_dir_all(&folder).map_err(failed)?;
        // From the last one down: the first makes the topic be there.
        for partition in (0..partitions).rev() {
            File::create(folder.join(format!("{partition}.log"))).map_err(failed)?;
        }
        Ok(())
    }

    pub(crate) fn get_or_create(&mut self, store: &Store, name: &Name) -> Result<&mut Topic, Error> {
        if self.find(store, name)?.is_none() {
            self.create(store, name, TopicSpec::default().for_topic(name).partitions)?;
        }
        self.find(store, name)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }
}

impl Topic {
    pub(crate) fn count(&self) -> u32 {
        self.partitions.len() as u32
    }

    fn append(&mut self, message: &Message) -> Result<Receipt, Error> {
        let partition = match &message.key {
            Some(key) => partition_for_key(key, self.count()),
            None => {
                self.next = (self.next + 1) % self.count();
                self.next
            }
        };
        let position = self.partitions[partition as usize].append(message).map_err(failed)?;
        Ok(Receipt::new(partition, Some(Position::new(position))))
    }
}

/// What a file could not do.
pub(crate) fn failed(error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "a file of the log").with_source(error)
}
