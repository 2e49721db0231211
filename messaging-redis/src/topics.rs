//! [`Topics`]: how many partitions each topic has, as the broker keeps it, and where its streams lie.

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;
use messaging::{Error, ErrorKind, Name, TopicSpec, dead_letter_topic};
use parking_lot::Mutex;
use redis::{Pipeline, Value, from_redis_value};

use crate::{
    config::{DEFAULT_PARTITIONS, MAX_PARTITIONS, Retention, wrong},
    keys::{Layout, check_topic, topic_key},
    link::{SharedLink, unexpected},
};

/// A topic as the broker knows it.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Name,
    pub(crate) layout: Layout,
    /// The stream of each partition.
    pub(crate) streams: Vec<Arc<str>>,
    /// How long its messages are kept, if it says so itself.
    age: Option<Duration>,
}

impl Topic {
    pub(crate) fn partitions(&self) -> u32 {
        self.streams.len() as u32
    }

    /// What is kept of it: as it says itself, else as this program is configured. Dead letters stay until the topic
    /// itself says otherwise.
    pub(crate) fn retention(&self, configured: Retention) -> Retention {
        let kept = Retention { age: None, length: None, ..configured };
        let base = if self.layout.is_own() { configured } else { Retention { finished: false, ..kept } };
        Retention { age: self.age.or(base.age), ..base }
    }
}

/// The topics that were asked for, each once.
pub(crate) struct Topics {
    link: Arc<SharedLink>,
    known: Mutex<HashMap<Name, Arc<Topic>>>,
}

impl Topics {
    pub(crate) fn new(link: Arc<SharedLink>) -> Self {
        Self { link, known: Mutex::default() }
    }

    /// A topic that was asked for before.
    pub(crate) fn known(&self, name: &Name) -> Option<Arc<Topic>> {
        self.known.lock().get(name).cloned()
    }

    /// The topic, made if it is missing and may be made.
    pub(crate) async fn get(&self, name: &Name) -> Result<Arc<Topic>, Error> {
        if let Some(topic) = self.known(name) {
            return Ok(topic);
        }
        let config = self.link.config();
        let topic = if config.create_topics {
            let mut spec = TopicSpec::default();
            spec.partitions = config.partitions.unwrap_or(DEFAULT_PARTITIONS);
            self.make(name, &Layout::of_its_own(name), &spec, config.partitions.is_some()).await?
        } else {
            self.describe(name).await?.ok_or_else(|| {
                wrong(format!("topic {:?} does not exist, and `create_topics=false` forbids to make it", name.as_str()))
            })?
        };
        if let Some(expected) = config.partitions.filter(|_| topic.layout.is_own()) {
            agree(name, expected, topic.partitions())?;
        }
        self.known.lock().insert(name.clone(), topic.clone());
        Ok(topic)
    }

    /// The topic of a group's dead letters from another, made if it is missing.
    pub(crate) async fn dead_letters(&self, source: &Topic, group: &str) -> Result<Arc<Topic>, Error> {
        let name = dead_letter_topic(&source.name, group);
        let layout = source.layout.dead_letters(group);
        let mut spec = TopicSpec::default();
        spec.partitions = source.partitions();
        let topic = self.make(&name, &layout, &spec, true).await?;
        if topic.layout != layout {
            return Err(wrong(format!(
                "topic {:?} is not free for the dead letters of group {group:?} from topic {:?}: it lies in {}, as another \
                 pair of a group and a topic has the same name, or somebody published to it before",
                name.as_str(),
                source.name.as_str(),
                topic.layout.stream(0),
            )));
        }
        Ok(topic)
    }

    /// The topic as the broker has it now.
    pub(crate) async fn describe(&self, name: &str) -> Result<Option<Arc<Topic>>, Error> {
        let mut pipe = Pipeline::new();
        pipe.cmd("HGETALL").arg(topic_key(name));
        let answers = self.link.pipeline("asking for a topic", &pipe).await?;
        read_topic(name, answers.into_iter().next().unwrap_or_default())
    }

    /// Checks that a topic in use has as many partitions as it had; makes it anew if somebody deleted it.
    pub(crate) async fn verify(&self, topic: &Topic) -> Result<(), Error> {
        let mut spec = TopicSpec::default();
        spec.partitions = topic.partitions();
        spec.retention = topic.age;
        self.make(&topic.name, &topic.layout, &spec, true).await.map(drop)
    }

    /// Makes a topic if it is missing; with `exact`, refuses one with another number of partitions.
    pub(crate) async fn make(
        &self,
        name: &str,
        layout: &Layout,
        spec: &TopicSpec,
        exact: bool,
    ) -> Result<Arc<Topic>, Error> {
        check_topic(name)?;
        if spec.partitions == 0 || spec.partitions > MAX_PARTITIONS {
            return Err(wrong(format!("topic {name:?} cannot have {} partitions: 1 to 1024", spec.partitions)));
        }
        if spec.retention_bytes.is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("topic {name:?}: the backend `redis` cannot bound a partition's bytes (`retention_bytes`)"),
            ));
        }
        let key = topic_key(name);
        let mut pipe = Pipeline::new();
        // One after the other, so that whoever comes second leaves everything as the first made it.
        pipe.cmd("HSETNX").arg(&key).arg("root").arg(layout.root.as_str());
        pipe.cmd("HSETNX").arg(&key).arg("suffix").arg(&layout.suffix);
        if let Some(age) = spec.retention {
            pipe.cmd("HSETNX").arg(&key).arg("retention_ms").arg(age.as_millis() as u64);
        }
        pipe.cmd("HSETNX").arg(&key).arg("partitions").arg(spec.partitions);
        pipe.cmd("HGETALL").arg(&key);
        let mut answers = self.link.pipeline("making a topic", &pipe).await?;
        if let Some(Value::ServerError(error)) = answers.iter().find(|answer| matches!(answer, Value::ServerError(_))) {
            return Err(crate::link::failed(&format!("making topic {name:?}"), error.clone().into()));
        }
        let topic = read_topic(name, answers.pop().unwrap_or_default())?
            .ok_or_else(|| unexpected("making a topic", format_args!("{key} is gone at once")))?;
        if exact {
            agree(name, spec.partitions, topic.partitions())?;
        }
        Ok(topic)
    }
}

fn agree(name: &str, expected: u32, found: u32) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(wrong(format!("topic {name:?} has {found} partitions in the broker, but {expected} are configured")))
}

fn read_topic(name: &str, answer: Value) -> Result<Option<Arc<Topic>>, Error> {
    if let Value::ServerError(error) = answer {
        return Err(crate::link::failed(&format!("asking for topic {name:?}"), error.into()));
    }
    let fields: std::collections::HashMap<String, String> =
        from_redis_value(answer).map_err(|error| unexpected("asking for a topic", error))?;
    let Some(partitions) = fields.get("partitions") else { return Ok(None) };
    let partitions: u32 =
        partitions.parse().ok().filter(|count| (1..=MAX_PARTITIONS).contains(count)).ok_or_else(|| {
            wrong(format!("topic {name:?} says in {} that it has {partitions:?} partitions", topic_key(name)))
        })?;
    let layout = Layout {
        root: fields.get("root").map_or_else(|| Name::new(name), |root| Name::new(root)),
        suffix: fields.get("suffix").cloned().unwrap_or_default(),
    };
    let streams = (0..partitions).map(|partition| Arc::from(layout.stream(partition))).collect();
    let age = fields.get("retention_ms").and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
    Ok(Some(Arc::new(Topic { name: Name::new(name), layout, streams, age })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(layout: Layout, age: Option<Duration>) -> Topic {
        Topic { name: "t".into(), streams: vec![layout.stream(0).into()], layout, age }
    }

    #[test]
    fn dead_letters_stay_unless_their_topic_says_otherwise() {
        let configured = Retention { length: Some(5), finished: true, ..Retention::default() };
        let own = Layout::of_its_own(&"t".into());
        assert_eq!(topic(own.clone(), None).retention(configured), configured);
        let kept = topic(own.dead_letters("g"), None).retention(configured);
        assert_eq!((kept.age, kept.length, kept.finished), (None, None, false));
        let day = Some(Duration::from_secs(86_400));
        assert_eq!(topic(own.dead_letters("g"), day).retention(configured).age, day);
    }
}
