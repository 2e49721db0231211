//! [`RedisAdmin`]: looks at topics and groups, and makes topics, without joining any group.

use std::sync::Arc;

use async_trait::async_trait;
use messaging::{Admin, Delivery, Error, GroupProgress, Message, Name, Position, TopicInfo, TopicSpec};
use redis::{Cmd, FromRedisValue, Pipeline, Value, from_redis_value};

use crate::{
    entry::{self, Fields},
    keys::Layout,
    link::{SharedLink, unexpected},
    topics::{Topic, Topics},
};

/// Looks at one server.
pub(crate) struct RedisAdmin {
    pub(crate) link: Arc<SharedLink>,
    pub(crate) topics: Arc<Topics>,
}

#[async_trait]
impl Admin for RedisAdmin {
    async fn describe(&self, topic: &str) -> Result<Option<TopicInfo>, Error> {
        let found = self.topics.describe(topic).await?;
        Ok(found.map(|topic| TopicInfo::new(topic.name.clone(), topic.partitions())))
    }

    async fn ensure_topic(&self, topic: &str, spec: &TopicSpec) -> Result<TopicInfo, Error> {
        let name = Name::new(topic);
        let made = self.topics.make(topic, &Layout::of_its_own(&name), spec, true).await?;
        Ok(TopicInfo::new(name, made.partitions()))
    }

    /// A group is on every partition: those of the first are all.
    async fn groups(&self, topic: &str) -> Result<Vec<Name>, Error> {
        let found = self.topics.describe(topic).await?;
        let Some(stream) = found.as_ref().and_then(|topic| topic.streams.first()) else { return Ok(Vec::new()) };
        let mut cmd = Cmd::new();
        cmd.arg("XINFO").arg("GROUPS").arg(&**stream);
        let groups: Vec<Value> = self.link.query("asking for the groups of a topic", cmd).await?;
        let mut names: Vec<Name> =
            groups.into_iter().filter_map(|group| field::<String>(&pairs(group), "name")).map(Name::from).collect();
        names.sort();
        Ok(names)
    }

    async fn progress(&self, group: &str, topic: &str) -> Result<Vec<GroupProgress>, Error> {
        let Some(topic) = self.topics.describe(topic).await? else { return Ok(Vec::new()) };
        let mut pipe = Pipeline::new();
        for stream in &topic.streams {
            pipe.cmd("XINFO").arg("GROUPS").arg(&**stream);
            pipe.cmd("XINFO").arg("STREAM").arg(&**stream);
            pipe.cmd("XPENDING").arg(&**stream).arg(group);
        }
        let mut answers = self.link.pipeline("asking for a group's progress", &pipe).await?.into_iter();
        let mut progress = Vec::with_capacity(topic.streams.len());
        for partition in 0..topic.partitions() {
            let mut next = || answers.next().unwrap_or_default();
            let (groups, stream, pending) = (next(), next(), next());
            let place = Place::read(group, groups, stream, pending);
            progress.push(self.progress_of(&topic, partition, place).await?);
        }
        Ok(progress)
    }

    async fn browse(&self, topic: &str, partition: u32, from: Position, limit: usize) -> Result<Vec<Delivery>, Error> {
        let Some(topic) = self.topics.describe(topic).await? else { return Ok(Vec::new()) };
        let Some(stream) = topic.streams.get(partition as usize) else { return Ok(Vec::new()) };
        let mut cmd = Cmd::new();
        cmd.arg("XRANGE").arg(&**stream).arg(entry::id(from)).arg("+").arg("COUNT").arg(limit);
        let entries: Vec<Value> = self.link.query("reading entries", cmd).await?;
        let mut scratch = Fields::default();
        let read = entries.into_iter().filter_map(|value| entry::read_entry(&topic.name, value, &mut scratch));
        Ok(read.map(|(position, message)| delivery(message, partition, position)).collect())
    }

    async fn end(&self, topic: &str, partition: u32) -> Result<Position, Error> {
        let Some(topic) = self.topics.describe(topic).await? else { return Ok(Position::default()) };
        let Some(stream) = topic.streams.get(partition as usize) else { return Ok(Position::default()) };
        let mut cmd = Cmd::new();
        cmd.arg("XREVRANGE").arg(&**stream).arg("+").arg("-").arg("COUNT").arg(1);
        let newest: Vec<Value> = self.link.query("reading the newest entry", cmd).await?;
        Ok(newest.first().and_then(id_of).map(entry::after).unwrap_or_default())
    }

    async fn unsettled(
        &self,
        group: &str,
        topic: &str,
        partition: u32,
        from: Position,
        limit: usize,
    ) -> Result<Vec<Delivery>, Error> {
        let Some(found) = self.topics.describe(topic).await? else { return Ok(Vec::new()) };
        let Some(stream) = found.streams.get(partition as usize) else { return Ok(Vec::new()) };
        let (mut from, mut unsettled) = (from, Vec::new());
        while unsettled.len() < limit {
            let page = self.browse(topic, partition, from, (limit - unsettled.len()).max(100)).await?;
            let (Some(first), Some(last)) = (page.first(), page.last()) else { break };
            let ends = (first.position, last.position);
            from = entry::after(ends.1);
            let open = self.open(stream, group, ends).await?;
            unsettled.extend(page.into_iter().filter(|delivery| open.holds(delivery.position)));
        }
        unsettled.truncate(limit);
        Ok(unsettled)
    }
}

/// What a group has not settled of a stretch of a stream.
struct Open {
    /// The last entry that was delivered; `None` without a group.
    last: Option<Position>,
    pending: Vec<Position>,
}

impl Open {
    fn holds(&self, position: Position) -> bool {
        self.last.is_none_or(|last| position > last) || self.pending.contains(&position)
    }
}

fn delivery(message: Arc<Message>, partition: u32, position: Position) -> Delivery {
    let mut delivery = Delivery::new(message);
    delivery.partition = partition;
    delivery.position = position;
    delivery.epoch = 0;
    delivery
}

/// Where a group stands on one stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    /// Entries in the stream.
    length: u64,
    /// Last delivered entry; `None` without a group.
    last: Option<Position>,
    /// Entries that were not delivered, as the server counts them.
    unread: Option<u64>,
    pending: u64,
    oldest_pending: Option<Position>,
}

impl Place {
    fn read(group: &str, groups: Value, stream: Value, pending: Value) -> Self {
        let stream = pairs(stream);
        let length = field(&stream, "length").unwrap_or(0);
        let Value::Array(groups) = groups else { return Self { length, ..Self::default() } };
        let found = groups
            .into_iter()
            .map(pairs)
            .find(|group_fields| field::<String>(group_fields, "name").as_deref() == Some(group));
        let Some(fields) = found else { return Self { length, ..Self::default() } };
        let id = |fields: &[(String, Value)], name: &str| {
            field::<String>(fields, name).and_then(|id| entry::parse_position(id.as_bytes()))
        };
        // After a restart the server may tell a lag where there is none.
        let (last, newest) = (id(&fields, "last-delivered-id"), id(&stream, "last-generated-id"));
        let oldest_pending = match pending {
            Value::Array(parts) => parts.get(1).and_then(entry::position),
            _ => None,
        };
        Self {
            length,
            last,
            unread: if last >= newest && last.is_some() { Some(0) } else { field(&fields, "lag") },
            pending: field(&fields, "pending").unwrap_or(0),
            oldest_pending,
        }
    }
}

fn pairs(value: Value) -> Vec<(String, Value)> {
    let Value::Array(flat) = value else { return Vec::new() };
    let mut flat = flat.into_iter();
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        if let Ok(name) = from_redis_value(name) {
            pairs.push((name, value));
        }
    }
    pairs
}

fn field<T: FromRedisValue>(pairs: &[(String, Value)], name: &str) -> Option<T> {
    let (_, value) = pairs.iter().find(|(candidate, _)| candidate == name)?;
    T::from_redis_value(value.clone()).ok()
}

impl RedisAdmin {
    /// What a group has not settled from one entry to another.
    async fn open(&self, stream: &str, group: &str, (first, last): (Position, Position)) -> Result<Open, Error> {
        let doing = "asking for what a group has not settled";
        let mut pipe = Pipeline::new();
        // In this order: what is delivered between the two answers counts as open either way.
        pipe.cmd("XINFO").arg("GROUPS").arg(stream);
        pipe.cmd("XPENDING").arg(stream).arg(group).arg(entry::id(first)).arg(entry::id(last)).arg(i64::MAX);
        let mut answers = self.link.pipeline(doing, &pipe).await?.into_iter();
        let mut next = || answers.next().unwrap_or_default();
        let (groups, pending) = (next(), next());
        let place = Place::read(group, groups, Value::Nil, Value::Nil);
        let pending = match pending {
            Value::Array(rows) => rows.iter().filter_map(id_of).collect(),
            _ => Vec::new(),
        };
        Ok(Open { last: place.last, pending })
    }

    async fn progress_of(&self, topic: &Topic, partition: u32, place: Place) -> Result<GroupProgress, Error> {
        let stream = &topic.streams[partition as usize];
        let Some(last) = place.last else {
            return Ok(GroupProgress::new(topic.name.clone(), partition, None, place.length));
        };
        let unread = match place.unread {
            Some(unread) => unread,
            None => self.count_after(stream, last, place.length).await?,
        };
        let watermark = match place.oldest_pending {
            None => Some(last).filter(|last| *last != Position::default()),
            Some(oldest) => self.last_before(stream, oldest).await?,
        };
        Ok(GroupProgress::new(topic.name.clone(), partition, watermark, unread + place.pending))
    }

    /// Counts entries where the server does not tell, page by page.
    async fn count_after(&self, stream: &str, last: Position, length: u64) -> Result<u64, Error> {
        const PAGE: usize = 1_000;
        let (mut from, mut count) = (entry::after(last), 0);
        // No more than there were: a stream that is being filled would never end.
        while count < length {
            let mut cmd = Cmd::new();
            cmd.arg("XRANGE").arg(stream).arg(entry::id(from)).arg("+").arg("COUNT").arg(PAGE);
            let entries: Vec<Value> = self.link.query("counting entries", cmd).await?;
            let Some(newest) = entries.last().and_then(id_of) else { break };
            count += entries.len() as u64;
            from = entry::after(newest);
        }
        Ok(count)
    }

    /// The last entry before this one that is still there.
    async fn last_before(&self, stream: &str, position: Position) -> Result<Option<Position>, Error> {
        let mut cmd = Cmd::new();
        cmd.arg("XREVRANGE").arg(stream).arg(entry::id(entry::before(position))).arg("-").arg("COUNT").arg(1);
        let entries: Vec<Value> = self.link.query("reading entries", cmd).await?;
        match entries.first() {
            None => Ok(None),
            Some(found) => id_of(found).map(Some).ok_or_else(|| unexpected("reading entries", "an entry has no id")),
        }
    }
}

fn id_of(value: &Value) -> Option<Position> {
    let Value::Array(parts) = value else { return None };
    entry::position(parts.first()?)
}
