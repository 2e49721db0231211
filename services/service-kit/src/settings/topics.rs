//! Topics as a settings file describes them, in one form for every broker: `[topics.order-events]`.

use std::fmt;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use messaging::TopicSpec;
use serde::{Deserialize, Deserializer, de::Error as _};

/// How a topic is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// Its name.
    pub name: String,
    /// Its partitions, and how long messages are kept.
    pub spec: TopicSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    partitions: Option<u32>,
    #[serde(default, deserialize_with = "duration")]
    retention: Option<Duration>,
    retention_bytes: Option<u64>,
    replication: Option<u16>,
}

/// Reads the tables of topics.
///
/// # Errors
/// What is wrong, beginning with the topic's key.
pub(super) fn read(topics: toml::Value) -> Result<Vec<TopicSettings>, String> {
    let toml::Value::Table(topics) = topics else {
        return Err("topics: expected tables such as [topics.name]".to_owned());
    };
    topics.into_iter().map(|(name, value)| one(name, value)).collect()
}

fn one(name: String, value: toml::Value) -> Result<TopicSettings, String> {
    let within = |reason: &dyn fmt::Display| format!("topics.{name}: {reason}");
    messaging::validate_name("topic", &name).map_err(|error| within(&error))?;
    let described: Described = value.try_into().map_err(|error: toml::de::Error| within(&error.message()))?;
    let mut spec = TopicSpec::default().for_topic(&name);
    match described.partitions {
        Some(0) => return Err(within(&"partitions: must be at least 1")),
        Some(partitions) => spec.partitions = partitions,
        None => {}
    }
    spec.retention = described.retention;
    spec.retention_bytes = described.retention_bytes;
    spec.replication = described.replication;
    Ok(TopicSettings { name, spec })
}

/// A positive duration such as `7d`, `36h` or `1d 12h`, of days of 24 hours.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = text.parse::<Span>().ok().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    let positive = parsed.and_then(|duration| Duration::try_from(duration).ok()).filter(|duration| !duration.is_zero());
    positive
        .map(Some)
        .ok_or_else(|| D::Error::custom(format_args!("retention: `{text}` is no duration such as 7d or 36h")))
}

impl fmt::Display for TopicSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TopicSpec { partitions, retention, retention_bytes, replication, .. } = &self.spec;
        write!(f, "{partitions} partitions")?;
        if let Some(retention) = retention {
            let kept = jiff::SignedDuration::try_from(*retention).unwrap_or(jiff::SignedDuration::MAX);
            write!(f, ", kept for {kept:#}")?;
        }
        if let Some(bytes) = retention_bytes {
            write!(f, ", {bytes} bytes of each kept")?;
        }
        replication.map_or(Ok(()), |copies| write!(f, ", {copies} copies"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<TopicSettings>, String> {
        read(toml::Value::Table(text.parse().unwrap()))
    }

    #[test]
    fn a_topic_is_read() {
        let topics = of("[order-events]\npartitions = 12\nretention = '7d'\nreplication = 3").unwrap();
        assert_eq!(topics[0].name, "order-events");
        assert_eq!(topics[0].spec.partitions, 12);
        assert_eq!(topics[0].spec.retention, Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(topics[0].to_string(), "12 partitions, kept for 168h, 3 copies");
        assert_eq!(of("[order-events]\nretention = '1d 12h'").unwrap()[0].spec.partitions, 16);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_topic() {
        for (text, message) in [
            ("[order-events]\npartition = 12", "topics.order-events: unknown field `partition`"),
            ("[order-events]\npartitions = 0", "topics.order-events: partitions: must be at least 1"),
            ("[order-events]\npartitions = 'many'", "topics.order-events: invalid type"),
            ("[order-events]\nretention = 'long'", "topics.order-events: retention: `long` is no duration"),
            ("[order-events]\nretention = '-7d'", "topics.order-events: retention: `-7d` is no duration"),
            ("['order events']\npartitions = 1", "topics.order events: "),
            ("order-events = 12", "topics.order-events: invalid type"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
