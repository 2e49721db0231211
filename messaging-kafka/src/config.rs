//! [`KafkaConfig`]: what stands in a `kafka://` address, checked, and the client settings that follow from it.

use std::time::Duration;

use messaging::{Address, Error, ErrorKind, TopicSpec};
use rdkafka::config::ClientConfig;

use crate::refused::check_pass_through;

/// The options of a `kafka://host:port,host:port?option=value` address.
///
/// Beside these, `librdkafka.NAME=value` sets any setting of librdkafka, except those on which the delivery contract
/// rests; they are refused by name.
#[derive(Clone)]
#[non_exhaustive]
pub struct KafkaConfig {
    /// `host:port,…`; 9092 is the usual port.
    pub bootstrap_servers: String,
    /// `client_id`: how the broker's logs and quotas name this program; `messaging` by default.
    pub client_id: String,
    /// `connect_timeout`: how long the first contact, and each question of administration, may take; 10 s by default.
    pub connect_timeout: Duration,
    /// `session_timeout`: after this long without a sign of life a consumer's partitions go to others; 6 s by
    /// default, the least that a broker allows as it is shipped.
    pub session_timeout: Duration,
    /// `metadata_refresh`: how soon new partitions are found; 10 s by default.
    pub metadata_refresh: Duration,
    /// `linger`: how long a publish may wait for company on its way to the broker; none by default.
    pub linger: Duration,
    /// `compression`: `none`, `gzip`, `snappy`, `lz4` or `zstd`; none by default.
    pub compression: String,
    /// `prefetch_bytes`: how much a consumer fetches ahead of the handlers; 16 MiB by default.
    pub prefetch_bytes: usize,
    /// `create_topics`: whether missing topics are made; yes by default.
    pub create_topics: bool,
    /// `partitions`, `replication`, `retention`: how topics are made.
    pub topics: TopicSpec,
    /// `expired_offsets`: where a group goes on whose progress the broker has forgotten.
    pub expired_offsets: ExpiredOffsets,
    security: Vec<(&'static str, String)>,
    pass_through: Vec<(String, String)>,
}

/// Where a group goes on that has read a topic before and whose progress the broker has since dropped, because no
/// member was there for longer than the broker's `offsets.retention.minutes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ExpiredOffsets {
    /// Nowhere: starting fails, with an error that names the choices.
    #[default]
    Refuse,
    /// At the oldest message: much comes again.
    Earliest,
    /// At the end: what was published meanwhile is skipped.
    Latest,
}

impl std::str::FromStr for ExpiredOffsets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => Err("neither `refuse`, `earliest` nor `latest`".to_owned()),
        }
    }
}

const COMPRESSIONS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

impl KafkaConfig {
    /// Reads an address.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the option that is wrong, unknown or refused.
    pub fn from_address(address: &Address) -> Result<Self, Error> {
        if address.hosts.is_empty() {
            return Err(wrong("a kafka address needs a host, for example kafka://localhost:9092"));
        }
        if !address.path.is_empty() {
            return Err(wrong(format!("a kafka address has no path, this one has {:?}", address.path)));
        }
        let mut options = address.options();
        let millis = |given: Option<Duration>, or: u64| given.unwrap_or(Duration::from_millis(or));
        let mut topics = TopicSpec::default();
        topics.partitions = options.take("partitions")?.unwrap_or(topics.partitions);
        topics.replication = options.take("replication")?;
        topics.retention = options.take_duration("retention")?;
        topics.retention_bytes = options.take("retention_bytes")?;
        let config = Self {
            bootstrap_servers: address.hosts.join(","),
            client_id: options.take("client_id")?.unwrap_or_else(|| "messaging".to_owned()),
            connect_timeout: millis(options.take_duration("connect_timeout")?, 10_000),
            session_timeout: millis(options.take_duration("session_timeout")?, 6_000),
            metadata_refresh: millis(options.take_duration("metadata_refresh")?, 10_000),
            linger: millis(options.take_duration("linger")?, 0),
            compression: options.take("compression")?.unwrap_or_else(|| "none".to_owned()),
            prefetch_bytes: options.take("prefetch_bytes")?.unwrap_or(16 << 20),
            create_topics: options.take("create_topics")?.unwrap_or(true),
            topics,
            expired_offsets: options.take("expired_offsets")?.unwrap_or_default(),
            security: crate::security::settings(address, &mut options)?,
            pass_through: options.take_prefixed("librdkafka."),
        };
        options.finish()?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Error> {
        let fault = if self.session_timeout < Duration::from_secs(3) {
            "option \"session_timeout\" is shorter than 3s: a pause of a moment would cost the partitions"
        } else if self.connect_timeout.is_zero() {
            "option \"connect_timeout\" is zero"
        } else if self.metadata_refresh < Duration::from_millis(100) {
            "option \"metadata_refresh\" is shorter than 100ms"
        } else if self.linger > Duration::from_secs(1) {
            "option \"linger\" is longer than 1s"
        } else if !COMPRESSIONS.contains(&self.compression.as_str()) {
            "option \"compression\" is none of none, gzip, snappy, lz4, zstd"
        } else if self.topics.partitions == 0 {
            "option \"partitions\" is zero"
        } else if self.prefetch_bytes < 64 << 10 {
            "option \"prefetch_bytes\" is less than 64 KiB"
        } else {
            return check_pass_through(&self.pass_through);
        };
        Err(wrong(fault))
    }

    /// What every client is made with.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", &self.client_id)
            .set("topic.metadata.refresh.interval.ms", millis(self.metadata_refresh))
            .set("socket.timeout.ms", millis(self.request_timeout()))
            .set("socket.connection.setup.timeout.ms", "5000")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("allow.auto.create.topics", "false")
            .set_log_level(crate::log::level());
        for (name, value) in &self.security {
            config.set(*name, value);
        }
        config
    }

    /// What a producer is made with, if an unanswered message is given up after `deadline`.
    /// The brokers take batches of records of at most `batch` bytes.
    pub(crate) fn producer(&self, deadline: Duration, batch: usize) -> ClientConfig {
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", millis(deadline))
            .set("linger.ms", millis(self.linger))
            .set("compression.type", &self.compression)
            .set("retry.backoff.ms", millis(crate::outcome::RETRY_BACKOFF))
            .set("message.max.bytes", crate::outcome::LOCAL_MAX_BYTES.to_string())
            .set(crate::publisher::BATCH_BYTES, batch.min(1_000_000).to_string())
            .set("queue.buffering.max.messages", "200000")
            .set("queue.buffering.max.kbytes", "262144");
        self.pass_through_to(&mut config);
        config
    }

    /// What a member of a group is made with.
    pub(crate) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", group)
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", millis(self.session_timeout))
            .set("heartbeat.interval.ms", millis((self.session_timeout / 12).min(Duration::from_millis(250))))
            // How long a member may take to let go of what it is asked for: the pump polls on whatever handlers do.
            .set("max.poll.interval.ms", millis(self.session_timeout.max(Duration::from_secs(60))))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            // The default of a second lets the local queue run dry long before the next fetch.
            .set("fetch.queue.backoff.ms", "1")
            // A partition that is taken up or resumed waits until the fetch that is out has ended.
            .set("fetch.wait.max.ms", "100")
            .set("queued.max.messages.kbytes", (self.prefetch_bytes >> 10).to_string());
        self.pass_through_to(&mut config);
        config
    }

    /// How long a request may be without an answer before its connection is given up.
    ///
    /// A coordinator answers nothing on a connection on which a member waits for the others to rejoin, which is until the
    /// session of a dead one runs out.
    fn request_timeout(&self) -> Duration {
        self.session_timeout + Duration::from_secs(4)
    }

    fn pass_through_to(&self, config: &mut ClientConfig) {
        for (name, value) in &self.pass_through {
            config.set(name, value);
        }
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().max(u128::from(!duration.is_zero())).to_string()
}

pub(crate) fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

impl std::fmt::Debug for KafkaConfig {
    /// Without secrets: the security settings and those passed through are shown by name.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let security: Vec<&str> = self.security.iter().map(|(name, _)| *name).collect();
        let pass_through: Vec<&str> = self.pass_through.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("KafkaConfig")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("client_id", &self.client_id)
            .field("session_timeout", &self.session_timeout)
            .field("create_topics", &self.create_topics)
            .field("topics", &self.topics)
            .field("security", &security)
            .field("pass_through", &pass_through)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<KafkaConfig, String> {
        KafkaConfig::from_address(&url.parse().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_its_options() {
        let config = parse("kafka://a:1,b:2?partitions=3&retention=7d&create_topics=false&linger=5ms").unwrap();
        assert_eq!(config.bootstrap_servers, "a:1,b:2");
        assert_eq!((config.topics.partitions, config.create_topics), (3, false));
        assert_eq!(config.topics.retention, Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(config.producer(Duration::from_secs(30), 1 << 20).get("linger.ms"), Some("5"));
    }

    #[test]
    fn passes_settings_through_and_refuses_those_that_the_contract_rests_on() {
        let config = parse("kafka://a?librdkafka.fetch.wait.max.ms=50").unwrap();
        assert_eq!(config.consumer("g").get("fetch.wait.max.ms"), Some("50"));
        for name in [
            "enable.auto.commit",
            "enable.idempotence",
            "acks",
            "request.required.acks",
            "auto.offset.reset",
            "partitioner",
            "partition.assignment.strategy",
            "group.protocol",
            "enable.auto.offset.store",
            "isolation.level",
            "group.id",
            "session.timeout.ms",
        ] {
            let error = parse(&format!("kafka://a?librdkafka.{name}=1")).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn mistakes_name_the_option() {
        for (url, word) in [
            ("kafka://a/topic", "path"),
            ("kafka://a?lingre=5", "lingre"),
            ("kafka://a?compression=brotli", "compression"),
            ("kafka://a?session_timeout=1s", "session_timeout"),
            ("kafka://a?expired_offsets=maybe", "expired_offsets"),
            ("kafka:", "host"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn librdkafka_knows_every_setting_that_is_set() {
        let config = parse("kafka://127.0.0.1:1").unwrap();
        config.producer(Duration::from_secs(30), 1 << 20).create_native_config().unwrap();
        config.consumer("g").create_native_config().unwrap();
    }

    #[test]
    fn secrets_do_not_show() {
        let config = parse("kafka://a?librdkafka.ssl.key.password=hush").unwrap();
        assert!(!format!("{config:?}").contains("hush"));
    }
}
