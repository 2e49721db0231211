//! [`RedisBackend`] and [`RedisBroker`]: connecting to a server, and making publishers and consumers on it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use messaging::{
    Address, Admin, Backend, Broker, Capabilities, Consumer, Error, ErrorKind, Name, Publisher, PublisherOptions,
    Start, Subscription, validate_name,
};
use redis::{Cmd, Pipeline, Value};

use crate::{
    admin::RedisAdmin,
    config::{Durability, RedisConfig},
    consumer::RedisConsumer,
    entry,
    keeper::GroupTopic,
    keys::lease_key,
    link::{Connector, SharedLink, failed},
    publisher::RedisPublisher,
    rights, scripts,
    topics::{Topic, Topics},
    trim::Trimmer,
};

const NAME: &str = "redis";

/// `redis://` and `rediss://` addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedisBackend;

#[async_trait]
impl Backend for RedisBackend {
    fn schemes(&self) -> &'static [&'static str] {
        &["redis", "rediss"]
    }

    async fn connect(&self, address: &Address) -> Result<Arc<dyn Broker>, Error> {
        let config = RedisConfig::from_address(address)?;
        Ok(Arc::new(RedisBroker::connect(config).await?))
    }
}

/// One Redis server.
pub struct RedisBroker {
    connector: Arc<Connector>,
    link: Arc<SharedLink>,
    topics: Arc<Topics>,
    trimmer: Arc<Trimmer>,
    capabilities: Capabilities,
}

impl RedisBroker {
    /// Connects, and checks that the server can keep the contract.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming the setting that is wrong; [`ErrorKind::Unsupported`] for a server that is too old, a
    /// cluster, or one that would lose confirmed messages; [`ErrorKind::Unavailable`] if it does not answer in time.
    pub async fn connect(config: RedisConfig) -> Result<Self, Error> {
        config.check()?;
        let mut capabilities = Capabilities::none(config.max_message_bytes);
        capabilities.durable = config.durability == Durability::Disk;
        capabilities.retains_history = true;
        capabilities.fencing_token = true;
        capabilities.fenced_dead_letter = true;
        capabilities.gates_on_validity = true;
        let connector = Arc::new(Connector::new(Arc::new(config))?);
        let link = Arc::new(SharedLink::new(connector.clone()));
        link.open().await?;
        let topics = Arc::new(Topics::new(link.clone()));
        let trimmer = Trimmer::new(link.clone());
        Ok(Self { connector, link, topics, trimmer, capabilities })
    }

    /// Makes the group on every partition of a topic, where it starts, so that nothing published from now on is missed.
    async fn join(&self, topic: &Topic, subscription: &Subscription) -> Result<(), Error> {
        let group = subscription.group.as_str();
        let start = match subscription.start {
            Start::Default | Start::Earliest => "0-0".to_owned(),
            Start::Latest => "$".to_owned(),
            Start::Position(position) => entry::id(entry::before(position)),
        };
        let mut pipe = Pipeline::with_capacity(topic.streams.len());
        for stream in &topic.streams {
            let cmd = pipe.add_command(scripts::JOIN.call(&[&lease_key(stream, group), &**stream]));
            cmd.arg(group).arg(&start);
        }
        let answers = self.link.pipeline("joining a group", &pipe).await?;
        for (stream, answer) in topic.streams.iter().zip(answers) {
            match answer {
                Value::ServerError(error) => {
                    return Err(failed(&format!("making group {group:?} on {stream}"), error.into()));
                }
                Value::BulkString(at) if !at.is_empty() => tracing::error!(
                    group, %stream, at = %String::from_utf8_lossy(&at),
                    "the group was gone: made anew where it had been; what was pending then is lost"
                ),
                _ => {}
            }
        }
        Ok(())
    }

    async fn group_topic(&self, name: &Name, subscription: &Subscription) -> Result<GroupTopic, Error> {
        let group = &subscription.group;
        let topic = self.topics.get(name).await?;
        let letters = self.topics.dead_letters(&topic, group).await?;
        let of_group = GroupTopic::new(topic.clone(), group);
        let keys = rights::Keys { stream: &topic.streams[0], group, members: &of_group.members };
        let commands = [rights::PUBLISHING, rights::CONSUMING].concat();
        rights::check(&self.link, &commands, &keys).await?;
        self.join(&topic, subscription).await?;
        self.trimmer.watch(&topic);
        self.trimmer.watch(&letters);
        Ok(of_group)
    }
}

#[async_trait]
impl Broker for RedisBroker {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn publisher(&self, options: PublisherOptions) -> Result<Arc<dyn Publisher>, Error> {
        rights::check_publishing(&self.link).await?;
        for subscription in &options.declare {
            subscription.check(NAME, &self.capabilities)?;
            for topic in &subscription.topics {
                self.group_topic(topic, subscription).await?;
            }
        }
        let publisher =
            RedisPublisher::open(self.connector.clone(), self.topics.clone(), self.trimmer.clone(), options).await?;
        Ok(Arc::new(publisher))
    }

    async fn consumer(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, Error> {
        validate_name("group", &subscription.group)?;
        subscription.check(NAME, &self.capabilities)?;
        let mut of_group = Vec::with_capacity(subscription.topics.len());
        for topic in &subscription.topics {
            of_group.push(self.group_topic(topic, subscription).await?);
        }
        let consumer = RedisConsumer::join(self.connector.clone(), self.topics.clone(), of_group, subscription).await?;
        Ok(Box::new(consumer))
    }

    fn admin(&self) -> Arc<dyn Admin> {
        Arc::new(RedisAdmin { link: self.link.clone(), topics: self.topics.clone() })
    }

    /// An entry's id begins with the server's time: also a topic that was made anew gives none again.
    fn log(&self, _: &str) -> Option<Name> {
        Some(Name::from_static("redis"))
    }

    async fn ping(&self, deadline: Duration) -> Result<(), Error> {
        let mut cmd = Cmd::new();
        cmd.arg("PING");
        match tokio::time::timeout(deadline, self.link.query::<String>("asking for a sign of life", cmd)).await {
            Ok(answered) => answered.map(drop),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "redis did not answer in time")),
        }
    }

    async fn close(&self, _deadline: Duration) -> Result<(), Error> {
        self.trimmer.stop();
        self.link.close().await;
        Ok(())
    }
}

impl std::fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisBroker").field("config", &self.connector.config).finish_non_exhaustive()
    }
}
