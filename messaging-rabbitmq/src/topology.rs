//! What is declared in the broker: exchanges of topics, queues of groups, and what is kept of a topic.
//!
//! Everything is durable, and declared as often as one likes. A declaration that contradicts what is there is refused by
//! the broker, which says both values.

use std::sync::Arc;

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use messaging::{Error, ErrorKind, Name, Subscription, TopicSpec, validate_name};
use tokio::time::timeout;

use crate::{
    config::{DEFAULT_PARTITIONS, DEFAULT_PREFETCH, DeliveryLimit, MAX_PARTITIONS, QueueType, wrong},
    error::{NOT_FOUND, PRECONDITION_FAILED, reply_code, reply_text, unavailable, while_doing},
    link::{Link, Links},
    names::{self, OPERATORS},
};

/// What is kept of a topic, in the arguments of a queue of its own that never holds a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicFacts {
    pub(crate) partitions: u32,
    pub(crate) prefetch: u16,
}

/// What somebody wants of a topic: numbers that must be, or those that a new one is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) partitions: Option<u32>,
    pub(crate) prefetch: Option<u16>,
}

/// What the broker counts of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Messages that are with nobody.
    pub(crate) ready: u32,
    /// Consumers to which it hands messages.
    pub(crate) consumers: u32,
}

const COUNT: &str = "x-max-length";
const PREFETCH: &str = "x-max-length-bytes";

/// Declares over one connection.
pub(crate) struct Topology<'a> {
    pub(crate) links: &'a Arc<Links>,
    pub(crate) link: &'a Link,
}

impl Topology<'_> {
    /// The topic as it has to be, made if it is missing and may be.
    pub(crate) async fn topic(&self, topic: &str) -> Result<TopicFacts, Error> {
        let config = &self.links.config;
        let of_one_group = TopicSpec::default().for_topic(topic).partitions == 1;
        let partitions = config.partitions.filter(|_| !of_one_group);
        if !config.create_topics && self.describe(topic).await?.is_none() {
            return Err(wrong(format!("there is no topic {topic:?}, and create_topics=false")));
        }
        self.ensure(topic, Wanted { partitions, prefetch: config.prefetch }).await
    }

    /// Makes the topic with these numbers if it is missing.
    pub(crate) async fn ensure(&self, topic: &str, wanted: Wanted) -> Result<TopicFacts, Error> {
        check_topic(topic)?;
        if wanted.partitions.is_some_and(|partitions| partitions == 0 || partitions > MAX_PARTITIONS) {
            return Err(wrong(format!("topic {topic:?} is to have a number of partitions between 1 and 1024")));
        }
        let config = &self.links.config;
        let mut default = TopicSpec::default();
        default.partitions = config.partitions.unwrap_or(DEFAULT_PARTITIONS);
        let known = self.links.known.lock().get(topic).copied();
        let mut facts = TopicFacts {
            partitions: wanted
                .partitions
                .or(known.map(|known| known.partitions))
                .unwrap_or(default.for_topic(topic).partitions),
            prefetch: wanted
                .prefetch
                .or(known.map(|known| known.prefetch))
                .unwrap_or(config.prefetch.unwrap_or(DEFAULT_PREFETCH)),
        };
        // Each refusal tells one number that is another.
        for _ in 0..3 {
            match self.declare_meta(topic, facts).await? {
                Ok(()) => {
                    let channel = self.link.channel().await?;
                    self.declare_exchange(&channel, topic).await?;
                    self.close(channel).await;
                    self.links.known.lock().insert(topic.to_owned(), facts);
                    return Ok(facts);
                }
                Err(Clash::Partitions(there)) => match wanted.partitions {
                    Some(asked) => return Err(differs(topic, "partitions", asked, there)),
                    None => facts.partitions = there,
                },
                Err(Clash::Prefetch(there)) => match wanted.prefetch {
                    Some(asked) => return Err(differs(topic, "prefetch", asked, there)),
                    None => facts.prefetch = there,
                },
            }
        }
        Err(unavailable(format!("topic {topic:?} changes while it is looked at")))
    }

    /// The topic as it is, if it is.
    pub(crate) async fn describe(&self, topic: &str) -> Result<Option<TopicFacts>, Error> {
        check_topic(topic)?;
        if self.queue(&names::meta_queue(topic)?).await?.is_none() {
            self.links.known.lock().remove(topic);
            return Ok(None);
        }
        self.ensure(topic, Wanted { partitions: None, prefetch: None }).await.map(Some)
    }

    /// Declares what a group needs so that it is owed what is published from now on: its queues on each of its topics,
    /// and where its dead letters and their replays go. The topics come back with what is kept of them.
    pub(crate) async fn group(&self, subscription: &Subscription) -> Result<Vec<(Name, TopicFacts)>, Error> {
        let group = &subscription.group;
        validate_name("group", group)?;
        let mut topics = Vec::with_capacity(subscription.topics.len());
        for topic in &subscription.topics {
            let facts = self.topic(topic).await?;
            self.queues(topic, group, facts.partitions).await?;
            topics.push((topic.clone(), facts));
            if !subscription.dead_letters {
                continue;
            }
            let Some((letters, replays)) = names::companions(topic, group) else { continue };
            let facts = self.topic(&letters).await?;
            self.queues(&letters, OPERATORS, facts.partitions).await?;
            if !subscription.topics.contains(&replays) {
                let facts = self.topic(&replays).await?;
                self.queues(&replays, group, facts.partitions).await?;
            }
        }
        Ok(topics)
    }

    /// What the broker counts of a queue; `None` if there is no such queue.
    pub(crate) async fn queue(&self, queue: &ShortString) -> Result<Option<Counted>, Error> {
        let channel = self.link.channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let asking = channel.queue_declare(queue.clone(), options, FieldTable::default());
        match timeout(self.link.patience, asking).await {
            Ok(Ok(found)) => {
                let counted = Counted { ready: found.message_count(), consumers: found.consumer_count() };
                self.close(channel).await;
                Ok(Some(counted))
            }
            Ok(Err(error)) if reply_code(&error) == Some(NOT_FOUND) => Ok(None),
            Ok(Err(error)) => Err(while_doing(&format!("looking at queue {queue}"), error)),
            Err(_) => Err(unavailable(format!("no answer about queue {queue}"))),
        }
    }

    async fn queues(&self, topic: &str, group: &str, partitions: u32) -> Result<(), Error> {
        let arguments = self.queue_arguments(group).await?;
        let channel = self.link.channel().await?;
        let exchange = names::topic_exchange(topic)?;
        for partition in 0..partitions {
            let queue = names::group_queue(topic, group, partition)?;
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            let declaring = channel.queue_declare(queue.clone(), options, arguments.clone());
            match timeout(self.link.patience, declaring).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) if reply_code(&error) == Some(PRECONDITION_FAILED) => return Err(clash(&queue, error)),
                Ok(Err(error)) => return Err(while_doing(&format!("declaring queue {queue}"), error)),
                Err(_) => return Err(unavailable(format!("no answer to the declaration of queue {queue}"))),
            }
            let key = names::short(partition.to_string())?;
            let binding = channel.queue_bind(
                queue.clone(),
                exchange.clone(),
                key,
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            self.link.answer(&format!("binding queue {queue}"), binding).await?;
        }
        self.close(channel).await;
        Ok(())
    }

    async fn queue_arguments(&self, group: &str) -> Result<FieldTable, Error> {
        let config = &self.links.config;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text(config.queue_type.as_str()));
        if group != OPERATORS {
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        }
        let limited = config.queue_type == QueueType::Quorum && config.delivery_limit == DeliveryLimit::Off;
        if limited && self.links.limits_deliveries().await? {
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(-1));
        }
        Ok(arguments)
    }

    async fn declare_exchange(&self, channel: &Channel, topic: &str) -> Result<(), Error> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declaring = channel.exchange_declare(
            names::topic_exchange(topic)?,
            ExchangeKind::Direct,
            options,
            FieldTable::default(),
        );
        self.link.answer(&format!("declaring exchange {topic}"), declaring).await
    }

    /// Declares the queue whose arguments are what is kept of a topic.
    async fn declare_meta(&self, topic: &str, facts: TopicFacts) -> Result<Result<(), Clash>, Error> {
        let queue = names::meta_queue(topic)?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("classic"));
        arguments.insert(COUNT.into(), AMQPValue::LongLongInt(facts.partitions.into()));
        arguments.insert(PREFETCH.into(), AMQPValue::LongLongInt(facts.prefetch.into()));
        let channel = self.link.channel().await?;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let declaring = channel.queue_declare(queue.clone(), options, arguments);
        let error = match timeout(self.link.patience, declaring).await {
            Ok(Ok(_)) => {
                self.close(channel).await;
                return Ok(Ok(()));
            }
            Ok(Err(error)) => error,
            Err(_) => return Err(unavailable(format!("no answer to the declaration of queue {queue}"))),
        };
        let told = reply_text(&error).filter(|_| reply_code(&error) == Some(PRECONDITION_FAILED));
        match told.and_then(Clash::parse) {
            Some(clash) => Ok(Err(clash)),
            None => Err(while_doing(&format!("declaring queue {queue}"), error)),
        }
    }

    async fn close(&self, channel: Channel) {
        // It is closed by being dropped as well; waiting keeps the order of what follows.
        let _ = timeout(self.link.patience, channel.close(200, "OK".into())).await;
    }
}

/// What is kept of a topic is another number than was declared.
#[derive(Debug, PartialEq, Eq)]
enum Clash {
    Partitions(u32),
    Prefetch(u16),
}

impl Clash {
    /// Reads it from what the broker says: `inequivalent arg 'x-max-length' for queue 'orders.meta' in vhost '/': received
    /// the value '8' of type 'long' but current is the value '16' of type 'long'`, with fewer words in other versions.
    fn parse(text: &str) -> Option<Self> {
        let (before, current) = text.split_once("but current is")?;
        let value = current.split('\'').nth(1)?;
        let (_, argument) = before.split_once("inequivalent arg '")?;
        match argument.split('\'').next()? {
            COUNT => value.parse().ok().map(Self::Partitions),
            PREFETCH => value.parse().ok().map(Self::Prefetch),
            _ => None,
        }
    }
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn differs(topic: &str, what: &str, asked: impl Into<u32>, there: impl Into<u32>) -> Error {
    let (asked, there) = (asked.into(), there.into());
    wrong(format!("topic {topic:?} has {what} {there} in the broker, and {asked} was asked for"))
}

fn clash(queue: &ShortString, error: lapin::Error) -> Error {
    let told = reply_text(&error).unwrap_or_default();
    let hint = if told.contains("x-delivery-limit") {
        "; it was declared by an older broker: let a policy set delivery-limit to -1 for it and use \
         delivery_limit=policy, or drain and delete it"
    } else {
        ""
    };
    Error::new(ErrorKind::Config, format!("queue {queue} is there with other arguments: {told}{hint}"))
        .with_source(error)
}

/// Topics are as long as Kafka's at most: 249 bytes, for the sake of the suffixes of dead letters.
fn check_topic(topic: &str) -> Result<(), Error> {
    if topic.len() <= 200 {
        return validate_name("topic", topic);
    }
    if topic.len() > 249 {
        return Err(wrong(format!("topic {topic:?} is longer than 249 characters")));
    }
    let (head, tail) = topic.split_at(topic.floor_char_boundary(200));
    validate_name("topic", head).and(validate_name("topic", tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_number_that_is_there_from_what_the_broker_says() {
        let old = "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 't.meta' in vhost '/': received the \
                   value '0' of type 'signedint' but current is the value '16' of type 'long'";
        assert_eq!(Clash::parse(old), Some(Clash::Partitions(16)));
        let terse = "PRECONDITION_FAILED - inequivalent arg 'x-max-length-bytes' for queue 't' in vhost 'it''s': received \
                     '0' but current is '256'";
        assert_eq!(Clash::parse(terse), Some(Clash::Prefetch(256)));
        assert_eq!(Clash::parse("PRECONDITION_FAILED - inequivalent arg 'durable' for queue 't'"), None);
        assert_eq!(Clash::parse("PRECONDITION_FAILED - inequivalent arg 'x-max-length' … but current is none"), None);
    }
}
