//! [`RabbitMqAdmin`]: looks at topics, groups and dead letters, over a connection of its own.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _};
use lapin::{
    options::{BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};
use messaging::{
    Admin, Delivery, Error, ErrorKind, GroupProgress, Name, Position, TopicInfo, TopicSpec, cloudevents::Reader,
};
use tokio::sync::Mutex;

use crate::{
    announcer::Announcer,
    error::while_doing,
    feed::{self, Quiet},
    inquiry::unsettled,
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
    announcer: Arc<Announcer>,
    open: Mutex<Option<Arc<Link>>>,
}

impl RabbitMqAdmin {
    pub(crate) fn new(links: Arc<Links>, announcer: Arc<Announcer>) -> Self {
        Self { links, announcer, open: Mutex::default() }
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

    /// The broker counts what is with nobody, and each member what is with it; of a member that does not answer, at most
    /// the prefetch for each of its partitions is not in.
    async fn progress(&self, group: &str, topic: &str) -> Result<Vec<GroupProgress>, Error> {
        let link = self.link().await?;
        let topology = Topology { links: &self.links, link: &link };
        let Some(facts) = topology.describe(topic).await? else { return Ok(Vec::new()) };
        let mut counts = Vec::new();
        for partition in 0..facts.partitions {
            let queue = names::group_queue(topic, group, partition)?;
            counts.extend(topology.queue(&queue).await?.map(|counted| (partition, counted)));
        }
        // Asked afterwards: what passes from the broker to a member meanwhile is counted twice rather than not at all.
        let owned = counts.iter().any(|(_, counted)| counted.consumers > 0);
        let members = if owned { unsettled(&link, &self.announcer, group).await? } else { Vec::new() };
        let rows = counts.into_iter().map(|(partition, counted)| {
            let held: u64 = members.iter().map(|holdings| holdings.unsettled(topic, partition)).sum();
            GroupProgress::new(Name::new(topic), partition, None, u64::from(counted.ready) + held)
        });
        Ok(rows.collect())
    }

    /// What a topic keeps for the group [`OPERATORS`]: dead letters that nobody has resolved yet; of other topics, what
    /// came since that group was declared on them. Whoever browses has it for himself for a moment. Positions are counted
    /// from 1 in the present order; they are others once messages before them are settled.
    async fn browse(&self, topic: &str, partition: u32, from: Position, limit: usize) -> Result<Vec<Delivery>, Error> {
        let link = self.link().await?;
        let queue = names::group_queue(topic, OPERATORS, partition)?;
        let topology = Topology { links: &self.links, link: &link };
        if topology.queue(&queue).await?.is_none() {
            return if names::is_dead_letters(topic) { Ok(Vec::new()) } else { Err(kept_for_nobody(topic)) };
        }
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        let skipped = if from.minor > 0 { from.major } else { from.major.saturating_sub(1) };
        let window = u16::try_from(skipped.saturating_add(limit as u64)).unwrap_or(u16::MAX);
        let channel = link.channel().await?;
        let what = format!("browsing {queue}");
        link.answer(&what, channel.basic_qos(window, BasicQosOptions::default())).await?;
        let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
        let consuming = channel.basic_consume(queue.clone(), tag, options, FieldTable::default());
        let mut consumer = Quiet(link.answer(&what, consuming).await?);
        // What it has handed over by then is all that nobody else has. Its count may be of before somebody gave back what
        // he had: a quorum queue writes that down first.
        feed::catch_up(&link, &channel, queue).await?;
        let topic = Name::new(topic);
        while let Some(next) = consumer.0.next().now_or_never().flatten() {
            let next = next.map_err(|error| while_doing(&what, error))?;
            let position = Position::new(next.delivery_tag);
            if position.major > skipped {
                let mut delivery =
                    Delivery::new(wire::read(&mut Reader::default(), &topic, &next.properties, next.data));
                (delivery.partition, delivery.position, delivery.epoch) = (partition, position, NO_EPOCH);
                found.push(delivery);
            }
        }
        // Puts everything back where it was.
        link.answer(&what, channel.close(200, "OK".into())).await?;
        Ok(found)
    }

    /// As browsing counts positions.
    async fn end(&self, topic: &str, partition: u32) -> Result<Position, Error> {
        let link = self.link().await?;
        let queue = names::group_queue(topic, OPERATORS, partition)?;
        let counted = Topology { links: &self.links, link: &link }.queue(&queue).await?;
        match counted {
            Some(counted) => Ok(Position::new(u64::from(counted.ready) + 1)),
            None if names::is_dead_letters(topic) => Ok(Position::new(1)),
            None => Err(kept_for_nobody(topic)),
        }
    }

    async fn unsettled(
        &self,
        group: &str,
        topic: &str,
        partition: u32,
        from: Position,
        limit: usize,
    ) -> Result<Vec<Delivery>, Error> {
        if group != OPERATORS {
            let message = format!(
                "what group {group:?} has not settled of topic {topic:?} cannot be shown: RabbitMQ hands a queue to one \
                 consumer; only what is kept for the group {OPERATORS:?} can be"
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        self.browse(topic, partition, from, limit).await
    }
}

fn kept_for_nobody(topic: &str) -> Error {
    let message = format!(
        "topic {topic:?} cannot be browsed: RabbitMQ keeps messages for groups alone; what is kept for the group \
         {OPERATORS:?} can be, if a publisher declares that group on it"
    );
    Error::new(ErrorKind::Unsupported, message)
}
