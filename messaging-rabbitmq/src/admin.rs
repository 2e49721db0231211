//! [`RabbitMqAdmin`]: looks at topics, groups and dead letters, over a connection of its own.

use std::sync::Arc;

use async_trait::async_trait;
use lapin::options::BasicGetOptions;
use messaging::{Admin, Delivery, Error, ErrorKind, GroupProgress, Name, Position, TopicInfo, TopicSpec};
use tokio::sync::Mutex;

use crate::{
    link::{Link, Links},
    names::{self, OPERATORS},
    topology::{Topology, Wanted},
    wire,
};

/// What browsing reports as the epoch: that of no owner.
const NO_EPOCH: u64 = 0;

#[derive(Debug)]
pub(crate) struct RabbitMqAdmin {
    links: Arc<Links>,
    open: Mutex<Option<Arc<Link>>>,
}

impl RabbitMqAdmin {
    pub(crate) fn new(links: Arc<Links>) -> Self {
        Self { links, open: Mutex::default() }
    }

    /// The connection, opened anew if it was lost.
    async fn link(&self) -> Result<Arc<Link>, Error> {
        let mut open = self.open.lock().await;
        match open.as_ref().filter(|link| link.connection.status().connected()) {
            Some(link) => Ok(link.clone()),
            None => {
                // Gone before the new one comes.
                *open = None;
                Ok(open.insert(Arc::new(self.links.open("messaging: administration").await?)).clone())
            }
        }
    }

    /// Asks the broker something that it can only answer if it lives.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        let link = self.link().await?;
        let channel = link.channel().await?;
        link.answer("closing a channel", channel.close(200, "OK".into())).await
    }

    pub(crate) async fn close(&self) {
        if let Some(link) = self.open.lock().await.take().and_then(Arc::into_inner) {
            link.close().await;
        }
    }
}

#[async_trait]
impl Admin for RabbitMqAdmin {
    async fn describe(&self, topic: &str) -> Result<Option<TopicInfo>, Error> {
        let link = self.link().await?;
        let facts = Topology { links: &self.links, link: &link }.describe(topic).await?;
        Ok(facts.map(|facts| TopicInfo::new(topic, facts.partitions)))
    }

    async fn ensure_topic(&self, topic: &str, spec: &TopicSpec) -> Result<TopicInfo, Error> {
        if spec.retention.is_some() || spec.retention_bytes.is_some() {
            let message = format!(
                "topic {topic:?} is to retain messages, which RabbitMQ does not: it keeps each until every group has it"
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let link = self.link().await?;
        let wanted = Wanted { partitions: Some(spec.partitions), prefetch: None };
        let facts = Topology { links: &self.links, link: &link }.ensure(topic, wanted).await?;
        Ok(TopicInfo::new(topic, facts.partitions))
    }

    /// The broker counts what is with nobody; what is with an owner, at most the prefetch for each partition, is not in.
    async fn progress(&self, group: &str, topic: &str) -> Result<Vec<GroupProgress>, Error> {
        let link = self.link().await?;
        let topology = Topology { links: &self.links, link: &link };
        let Some(facts) = topology.describe(topic).await? else { return Ok(Vec::new()) };
        let mut rows = Vec::new();
        for partition in 0..facts.partitions {
            let queue = names::group_queue(topic, group, partition)?;
            let Some(lag) = topology.message_count(&queue).await? else { continue };
            rows.push(GroupProgress::new(Name::new(topic), partition, None, lag.into()));
        }
        Ok(rows)
    }

    /// Dead letters only, as nobody has resolved them yet: other topics are kept for their groups alone. Positions are
    /// counted from 1 in the present order; they are others once letters before them are resolved.
    async fn browse(&self, topic: &str, partition: u32, from: Position, limit: usize) -> Result<Vec<Delivery>, Error> {
        if !names::is_dead_letters(topic) {
            let message = format!(
                "topic {topic:?} cannot be browsed: RabbitMQ keeps messages for groups alone, and hands them over once"
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let link = self.link().await?;
        let queue = names::group_queue(topic, OPERATORS, partition)?;
        let topology = Topology { links: &self.links, link: &link };
        if topology.message_count(&queue).await?.is_none() {
            return Ok(Vec::new());
        }
        let channel = link.channel().await?;
        let what = format!("browsing {queue}");
        let topic = Name::new(topic);
        let mut found = Vec::new();
        while found.len() < limit {
            let getting = channel.basic_get(queue.clone(), BasicGetOptions::default());
            let Some(got) = link.answer(&what, getting).await? else { break };
            let position = Position::new(got.delivery.delivery_tag);
            if position < from {
                continue;
            }
            let message = wire::read(&topic, &got.delivery.properties, got.delivery.data);
            let mut delivery = Delivery::new(message);
            (delivery.partition, delivery.position, delivery.epoch) = (partition, position, NO_EPOCH);
            found.push(delivery);
        }
        // Puts everything back where it was.
        link.answer(&what, channel.close(200, "OK".into())).await?;
        Ok(found)
    }
}
