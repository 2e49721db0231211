//! [`Committer`]: a thread that commits and waits for the answer, so that the pump does not.
//!
//! The client library reports the end of a commit only to a caller that waits for it.

use std::{
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use messaging::Error;
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaResult,
};

use super::{context::Context, inbox::Inbox};
use crate::error::unavailable;

/// Commits one list after the other.
pub(super) struct Committer {
    lists: mpsc::Sender<TopicPartitionList>,
    ends: mpsc::Receiver<KafkaResult<()>>,
    thread: JoinHandle<()>,
}

impl Committer {
    pub(super) fn start(consumer: Arc<BaseConsumer<Context>>, inbox: Arc<Inbox>) -> Result<Self, Error> {
        let (lists, to_commit) = mpsc::channel::<TopicPartitionList>();
        let (ended, ends) = mpsc::channel();
        let run = move || {
            for list in to_commit {
                let _ = ended.send(consumer.commit(&list, CommitMode::Sync));
                inbox.wake();
            }
        };
        let thread = std::thread::Builder::new().name("kafka-commits".to_owned()).spawn(run);
        let thread = thread.map_err(|error| unavailable("starting a thread").with_source(error))?;
        Ok(Self { lists, ends, thread })
    }

    /// Commits a list, after those before.
    pub(super) fn commit(&self, list: TopicPartitionList) {
        // The thread ends only with this end of the channel.
        let _ = self.lists.send(list);
    }

    /// How the next commit that has ended did.
    pub(super) fn ended(&self) -> Option<KafkaResult<()>> {
        self.ends.try_recv().ok()
    }

    /// Waits for the commit that is out, and ends.
    pub(super) fn end(self) {
        drop(self.lists);
        let _ = self.thread.join();
    }
}
