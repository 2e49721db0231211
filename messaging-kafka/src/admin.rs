//! [`KafkaAdmin`]: looks at and makes topics, tells a group's progress, reads without joining.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use messaging::{Admin, Delivery, Error, ErrorKind, GroupProgress, Name, Position, TopicInfo, TopicSpec};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    client::ClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    types::RDKafkaErrorCode as Code,
};

use crate::{
    config::KafkaConfig,
    error::{from_creation, from_kafka},
    log,
    mark::MAX_BYTES as MARK_BYTES,
    topics::Layout,
};

/// A broker's setting for the largest batch of records.
const MAX_BYTES: &str = "message.max.bytes";
/// The same for one topic.
const TOPIC_MAX_BYTES: &str = "max.message.bytes";
/// A topic that nearly every cluster has: asking for it is the smallest question there is.
const PING_TOPIC: &str = "__consumer_offsets";
/// A broker's setting for the largest metadata of a commit.
const MAX_METADATA: &str = "offset.metadata.max.bytes";

/// What the brokers take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of a batch of records, so of a record too.
    pub(crate) record: usize,
    /// Bytes of metadata with a commit that we make use of.
    pub(crate) commit_metadata: usize,
}

impl Default for Limits {
    /// A broker as it is shipped.
    fn default() -> Self {
        Self { record: 1_048_588, commit_metadata: MARK_BYTES }
    }
}

/// A client that only asks and arranges; clones share it.
#[derive(Clone)]
pub(crate) struct KafkaAdmin {
    config: Arc<KafkaConfig>,
    client: Arc<AdminClient<Quiet>>,
    limits: Limits,
}

/// Logs as the other clients do.
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log::line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log::client_error(&error, reason);
    }
}

impl KafkaAdmin {
    pub(crate) fn new(config: KafkaConfig) -> Result<Self, Error> {
        let mut settings = config.client();
        // It asks when it is asked, and would otherwise go on asking for every topic it ever heard of.
        settings.set("topic.metadata.refresh.interval.ms", "-1");
        let client = settings.create_with_context(Quiet).map_err(from_creation)?;
        Ok(Self { config: Arc::new(config), client: Arc::new(client), limits: Limits::default() })
    }

    pub(crate) fn config(&self) -> &KafkaConfig {
        &self.config
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Waits for the first answer of any broker, and asks it for its limits.
    pub(crate) fn connect(&mut self) -> Result<(), Error> {
        let servers = &self.config.bootstrap_servers;
        let deadline = self.config.connect_timeout;
        let metadata = self.client.inner().fetch_metadata(Some(PING_TOPIC), deadline).map_err(|error| {
            match crate::inspect::refusal(self) {
                Some(why) => Error::new(ErrorKind::Config, format!("kafka: connecting to {servers} failed: {why}")),
                None => from_kafka(&format!("connecting to {servers} within {deadline:?}"), error),
            }
        })?;
        let broker = ResourceSpecifier::Broker(metadata.orig_broker_id());
        let [record, commit_metadata] = self.settings_of(&broker, [MAX_BYTES, MAX_METADATA]);
        self.limits.record = record.unwrap_or(self.limits.record);
        self.limits.commit_metadata = commit_metadata.map_or(MARK_BYTES, |most| most.min(MARK_BYTES));
        Ok(())
    }

    /// Settings that are numbers; nothing for those that are not told. Without the right to ask, the usual values are the
    /// best guess; what the broker refuses it tells in any case.
    fn settings_of<const N: usize>(&self, what: &ResourceSpecifier<'_>, names: [&str; N]) -> [Option<usize>; N] {
        let asked = self.client.describe_configs([what], &self.options());
        let told = futures::executor::block_on(asked).unwrap_or_default().into_iter().flatten().next();
        let number = |name| told.as_ref()?.get(name)?.value.as_deref()?.parse().ok();
        names.map(number)
    }

    /// The largest batch of records that a topic takes, if it has a limit of its own and it is told.
    pub(crate) fn max_bytes_of(&self, topic: &str) -> Option<usize> {
        let [most] = self.settings_of(&ResourceSpecifier::Topic(topic), [TOPIC_MAX_BYTES]);
        most
    }

    /// The groups that have joined on a topic, by their dead letters, without which none joins.
    fn groups_of(&self, topic: &str) -> Result<Vec<Name>, Error> {
        let metadata = self
            .client
            .inner()
            .fetch_metadata(None, self.config.connect_timeout)
            .map_err(|error| from_kafka("asking for all topics", error))?;
        let names: Vec<&str> = metadata.topics().iter().map(|found| found.name()).collect();
        Ok(crate::inspect::groups(topic, &names))
    }

    /// How many partitions a topic has, and which have a leader; `None` if there is no such topic.
    pub(crate) fn partitions_of(&self, topic: &str) -> Result<Option<Layout>, Error> {
        let doing = || format!("asking for topic {topic:?}");
        let metadata = self
            .client
            .inner()
            .fetch_metadata(Some(topic), self.config.connect_timeout)
            .map_err(|error| from_kafka(&doing(), error))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
        match found.error().map(Code::from) {
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => return Ok(None),
            Some(code) => return Err(from_kafka(&doing(), KafkaError::MetadataFetch(code))),
            None => {}
        }
        let led = found.partitions().iter().filter(|partition| partition.leader() >= 0);
        let led = led.filter_map(|partition| u32::try_from(partition.id()).ok()).collect();
        Ok(Some(Layout { partitions: found.partitions().len() as u32, led }).filter(|layout| layout.partitions > 0))
    }

    /// The same, after making the topic if it is missing and may be made.
    pub(crate) fn partitions_or_create(&self, topic: &str) -> Result<Layout, Error> {
        self.partitions_or(topic, &self.config.topics, &[])
    }

    /// The same, with how it is made.
    pub(crate) fn partitions_or(
        &self,
        topic: &str,
        spec: &TopicSpec,
        settings: &[(&str, &str)],
    ) -> Result<Layout, Error> {
        if let Some(found) = self.partitions_of(topic)? {
            return Ok(found);
        }
        if !self.config.create_topics {
            return Err(Error::new(
                ErrorKind::Config,
                format!("topic {topic:?} does not exist, and option \"create_topics\" is false"),
            ));
        }
        self.make(topic, spec, settings)
    }

    /// The same, made if it is missing.
    fn make(&self, topic: &str, spec: &TopicSpec, settings: &[(&str, &str)]) -> Result<Layout, Error> {
        futures::executor::block_on(self.create(topic, spec, settings))?;
        // A broker learns of a new topic a moment after the controller made it.
        let deadline = std::time::Instant::now() + self.config.connect_timeout;
        loop {
            match self.partitions_of(topic) {
                Ok(Some(found)) if found.led.len() == found.partitions as usize => return Ok(found),
                Err(error) if !error.is_transient() => return Err(error),
                _ if std::time::Instant::now() >= deadline => {
                    return Err(Error::new(ErrorKind::Timeout, format!("topic {topic:?} was made but has no leaders")));
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Makes a topic; one that is there already is well too.
    async fn create(&self, topic: &str, spec: &TopicSpec, settings: &[(&str, &str)]) -> Result<(), Error> {
        let doing = || format!("making topic {topic:?}");
        let partitions = i32::try_from(spec.partitions).map_err(|_| crate::config::wrong("too many partitions"))?;
        let replication = TopicReplication::Fixed(spec.replication.map_or(-1, i32::from));
        let retention = spec.retention.map(|retention| retention.as_millis().to_string());
        let retention_bytes = spec.retention_bytes.map(|bytes| bytes.to_string());
        let mut new = NewTopic::new(topic, partitions, replication);
        if let Some(retention) = &retention {
            new = new.set("retention.ms", retention);
        }
        if let Some(bytes) = &retention_bytes {
            new = new.set("retention.bytes", bytes);
        }
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let created = self.client.create_topics([&new], &self.options()).await;
        match created.map_err(|error| from_kafka(&doing(), error))?.into_iter().next() {
            None | Some(Ok(_) | Err((_, Code::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code))) => Err(from_kafka(&doing(), KafkaError::AdminOp(code))),
        }
    }

    fn options(&self) -> AdminOptions {
        let deadline = Some(self.config.connect_timeout);
        AdminOptions::new().request_timeout(deadline).operation_timeout(deadline)
    }

    /// The offset after the last message of a partition.
    pub(crate) fn end_of(&self, topic: &str, partition: u32) -> Result<u64, Error> {
        let watermarks =
            self.client.inner().fetch_watermarks(topic, partition.cast_signed(), self.config.connect_timeout);
        let doing = || format!("asking for the end of partition {partition} of topic {topic:?}");
        watermarks.map(|(_, high)| high.unsigned_abs()).map_err(|error| from_kafka(&doing(), error))
    }

    /// Checks that a broker answers.
    pub(crate) fn ping(&self, deadline: Duration) -> Result<(), Error> {
        self.client
            .inner()
            .fetch_metadata(Some(PING_TOPIC), deadline)
            .map(drop)
            .map_err(|error| from_kafka("a ping", error))
    }
}

/// Runs a blocking question of the client on a thread for such.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Error::new(ErrorKind::Internal, "kafka: a question to the client panicked").with_source(error)
    })?
}

#[async_trait]
impl Admin for KafkaAdmin {
    async fn describe(&self, topic: &str) -> Result<Option<TopicInfo>, Error> {
        let (admin, name) = (self.clone(), Name::new(topic));
        let found = blocking(move || admin.partitions_of(&name)).await?;
        Ok(found.map(|layout| TopicInfo::new(topic, layout.partitions)))
    }

    async fn ensure_topic(&self, topic: &str, spec: &TopicSpec) -> Result<TopicInfo, Error> {
        messaging::validate_name("topic", topic)?;
        let (admin, name, asked) = (self.clone(), Name::new(topic), spec.clone());
        let partitions = blocking(move || admin.make(&name, &asked, &[])).await?.partitions;
        if partitions != spec.partitions {
            let wanted = spec.partitions;
            let reason = format!("topic {topic:?} has {partitions} partitions, not the {wanted} that are asked for");
            return Err(Error::new(ErrorKind::Config, reason));
        }
        Ok(TopicInfo::new(topic, partitions))
    }

    async fn groups(&self, topic: &str) -> Result<Vec<Name>, Error> {
        let (admin, topic) = (self.clone(), Name::new(topic));
        blocking(move || admin.groups_of(&topic)).await
    }

    async fn progress(&self, group: &str, topic: &str) -> Result<Vec<GroupProgress>, Error> {
        let (admin, group, topic) = (self.clone(), Name::new(group), Name::new(topic));
        blocking(move || crate::inspect::progress(&admin, &group, &topic)).await
    }

    async fn browse(&self, topic: &str, partition: u32, from: Position, limit: usize) -> Result<Vec<Delivery>, Error> {
        let (admin, topic) = (self.clone(), Name::new(topic));
        blocking(move || crate::inspect::browse(&admin, &topic, partition, from, limit)).await
    }

    async fn end(&self, topic: &str, partition: u32) -> Result<Position, Error> {
        let (admin, topic) = (self.clone(), Name::new(topic));
        blocking(move || crate::inspect::end(&admin, &topic, partition)).await
    }

    async fn unsettled(
        &self,
        group: &str,
        topic: &str,
        partition: u32,
        from: Position,
        limit: usize,
    ) -> Result<Vec<Delivery>, Error> {
        let (admin, group, topic) = (self.clone(), Name::new(group), Name::new(topic));
        blocking(move || crate::inspect::unsettled(&admin, &group, &topic, partition, from, limit)).await
    }
}
