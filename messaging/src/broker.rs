//! [`Broker`] and [`Admin`]: what a backend implements off the hot path. The hot ones are
//! [`Publisher`](crate::Publisher) and [`Consumer`](crate::Consumer).

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    capability::Capabilities,
    consumer::Consumer,
    delivery::{Delivery, Position},
    error::{Error, ErrorKind},
    name::Name,
    pending::PendingWork,
    publisher::Publisher,
    subscription::Subscription,
    time::{BootClock, Clock},
};

/// One connected backend: makes publishers and consumers. Object-safe; chosen at run time.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// The backend's name as it stands in URLs and errors: `kafka`, `redis`, `amqp`, `memory`.
    fn name(&self) -> &'static str;

    /// What it can do, as configured.
    fn capabilities(&self) -> &Capabilities;

    /// Opens a publisher. It confirms as durably as [`Capabilities::durable`] says.
    ///
    /// # Errors
    /// If the broker cannot be reached within the backend's connect deadline, or refuses.
    async fn publisher(&self, options: PublisherOptions) -> Result<Arc<dyn Publisher>, Error>;

    /// Joins a group as one more instance. The subscription has been checked against the capabilities.
    ///
    /// # Errors
    /// If the broker cannot be reached within the backend's connect deadline, a topic is missing and may not be
    /// created, or the topology disagrees.
    async fn consumer(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, Error>;

    /// The means to look at and prepare topics and groups.
    fn admin(&self) -> Arc<dyn Admin>;

    /// The clock on which this backend's consumers express `valid_until`.
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(BootClock)
    }

    /// Names the log of a topic in this life of it: (this name, topic, partition, position) is one message and never
    /// another, also once the topic was deleted and made anew. `None` where positions identify nothing; then a message
    /// without an envelope cannot be recognised when it comes again.
    fn log(&self, _topic: &str) -> Option<Name> {
        None
    }

    /// Work inside this process that [`Messaging::settled`](crate::Messaging::settled) waits for, if the backend knows.
    fn pending(&self) -> Option<Arc<dyn PendingWork>> {
        None
    }

    /// Checks that the broker answers, for readiness.
    ///
    /// # Errors
    /// If it does not answer within `deadline`.
    async fn ping(&self, deadline: Duration) -> Result<(), Error>;

    /// Closes connections that publishers and consumers do not own. They are closed before.
    ///
    /// # Errors
    /// If closing did not end within `deadline`; nothing is left to do then.
    async fn close(&self, deadline: Duration) -> Result<(), Error>;
}

/// What a publisher is opened with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublisherOptions {
    /// After this long without the broker's answer a message is *unknown*.
    pub deadline: Duration,
    /// Groups whose queues must exist before the first publish, where the backend keeps messages only for groups that
    /// it knows (RabbitMQ).
    pub declare: Vec<Subscription>,
}

impl Default for PublisherOptions {
    /// A deadline of 30 s, no groups.
    fn default() -> Self {
        Self { deadline: Duration::from_secs(30), declare: Vec::new() }
    }
}

/// A topic as its broker keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicInfo {
    /// Its name.
    pub topic: Name,
    /// How many partitions it has.
    pub partitions: u32,
}

impl TopicInfo {
    /// A topic of this name and number of partitions.
    #[must_use]
    pub fn new(topic: impl Into<Name>, partitions: u32) -> Self {
        Self { topic: topic.into(), partitions }
    }
}

/// How a topic of our own is made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicSpec {
    /// How many partitions, 16 by default.
    pub partitions: u32,
    /// How many copies, where the broker replicates; `None` is the broker's default.
    pub replication: Option<u16>,
    /// How long messages are kept; `None` is the broker's default.
    pub retention: Option<Duration>,
    /// How many bytes are kept per partition; `None` is the broker's default.
    pub retention_bytes: Option<u64>,
}

impl TopicSpec {
    /// How a topic is made that nobody described: as this one, but topics that belong to a single group (its dead
    /// letters, their replays) get one partition.
    #[must_use]
    pub fn for_topic(&self, topic: &str) -> Self {
        let of_one_group = topic.ends_with(".dlq") || topic.ends_with(".replay");
        Self { partitions: if of_one_group { 1 } else { self.partitions }, ..self.clone() }
    }
}

impl Default for TopicSpec {
    fn default() -> Self {
        Self { partitions: 16, replication: None, retention: None, retention_bytes: None }
    }
}

/// How far a group is on one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupProgress {
    /// The topic.
    pub topic: Name,
    /// The partition's number.
    pub partition: u32,
    /// The last position up to which everything is settled, if any is.
    pub watermark: Option<Position>,
    /// Messages that are not settled yet, as exactly as the broker tells.
    pub lag: u64,
}

impl GroupProgress {
    /// Progress on one partition.
    #[must_use]
    pub fn new(topic: Name, partition: u32, watermark: Option<Position>, lag: u64) -> Self {
        Self { topic, partition, watermark, lag }
    }
}

/// How many messages are browsed at once to find the end.
const PAGE: usize = 1_000;

/// Looks at and prepares topics and groups, without joining any group.
#[async_trait]
pub trait Admin: Send + Sync {
    /// The topic as it is, or `None` if there is none.
    ///
    /// # Errors
    /// If the broker does not answer within the backend's deadline.
    async fn describe(&self, topic: &str) -> Result<Option<TopicInfo>, Error>;

    /// Makes the topic if it is missing; idempotent.
    ///
    /// # Errors
    /// If it exists with another number of partitions (both are named), or the broker does not answer or refuses.
    async fn ensure_topic(&self, topic: &str, spec: &TopicSpec) -> Result<TopicInfo, Error>;

    /// The groups that have joined on a topic, of which the broker still knows, by name.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the broker cannot tell, as here; if it does not answer within the backend's deadline.
    async fn groups(&self, topic: &str) -> Result<Vec<Name>, Error> {
        let told = format!("the broker does not tell which groups there are on topic {topic:?}");
        Err(Error::new(ErrorKind::Unsupported, told))
    }

    /// How far a group is on a topic, a row per partition.
    ///
    /// # Errors
    /// If the broker does not answer within the backend's deadline.
    async fn progress(&self, group: &str, topic: &str) -> Result<Vec<GroupProgress>, Error>;

    /// Up to `limit` messages of a partition from a position on, without joining a group or settling anything.
    ///
    /// # Errors
    /// If the broker does not answer, or the backend cannot browse.
    async fn browse(&self, topic: &str, partition: u32, from: Position, limit: usize) -> Result<Vec<Delivery>, Error>;

    /// Where browsing has come to the end: every message published from now on stands at this position or after it.
    ///
    /// # Errors
    /// As [`browse`](Self::browse).
    async fn end(&self, topic: &str, partition: u32) -> Result<Position, Error> {
        let mut end = Position::default();
        loop {
            let page = self.browse(topic, partition, end, PAGE).await?;
            let Some(last) = page.last().filter(|last| last.position >= end) else { return Ok(end) };
            end = Position { major: last.position.major, minor: last.position.minor + 1 };
            if page.len() < PAGE {
                return Ok(end);
            }
        }
    }

    /// Up to `limit` messages of a partition that a group has not settled, from a position on, without joining it; all
    /// of a group that has never been there. A backend that knows nothing finer answers all beyond the watermark.
    ///
    /// # Errors
    /// As [`browse`](Self::browse).
    async fn unsettled(
        &self,
        group: &str,
        topic: &str,
        partition: u32,
        from: Position,
        limit: usize,
    ) -> Result<Vec<Delivery>, Error> {
        let rows = self.progress(group, topic).await?;
        let watermark = rows.iter().find(|row| row.partition == partition).and_then(|row| row.watermark);
        let from = watermark.map_or(from, |watermark| from.max(watermark));
        let mut found = self.browse(topic, partition, from, limit.saturating_add(1)).await?;
        found.retain(|delivery| watermark.is_none_or(|watermark| delivery.position > watermark));
        found.truncate(limit);
        Ok(found)
    }
}
