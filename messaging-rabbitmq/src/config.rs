//! [`RabbitMqConfig`]: what stands in an `amqp://` address, checked.

use std::{fmt, str::FromStr, time::Duration};

use lapin::uri::AMQPUri;
use messaging::{Address, Error, ErrorKind, Subscription};

/// The options of an `amqp://user:password@host:port,host:port/vhost?option=value` address; `amqps://` for TLS.
///
/// An address without a path, or with an empty one, means the virtual host `/`. Of several hosts, the nodes of one
/// cluster, the first that answers is taken.
#[derive(Clone)]
#[non_exhaustive]
pub struct RabbitMqConfig {
    /// The nodes, each a name or an address, and a port: 5672 by default, 5671 with TLS.
    pub hosts: Vec<(String, u16)>,
    /// The virtual host.
    pub vhost: String,
    /// The user; `guest` by default.
    pub user: String,
    /// The user's password; `guest` by default.
    pub password: String,
    /// TLS, which `amqps://` asks for.
    pub tls: Option<Tls>,
    /// `partitions`: how many partitions a topic has. New topics are made with so many, 16 by default; if it is given, a
    /// topic that has another number is refused.
    pub partitions: Option<u32>,
    /// `prefetch`: how many messages of a partition may be with its owner, unsettled. It belongs to the topic, the same
    /// for every member: new topics are made with so many, 256 by default; if it is given, a topic that has another
    /// number is refused.
    pub prefetch: Option<u16>,
    /// `create_topics`: whether missing topics are made; yes by default.
    pub create_topics: bool,
    /// `queue_type`: `quorum` by default, or `classic`.
    pub queue_type: QueueType,
    /// `delivery_limit`: who sees to it that the broker does not drop what it hands over often; see [`DeliveryLimit`].
    pub delivery_limit: DeliveryLimit,
    /// `heartbeat`: a process that is silent for twice to three times as long has lost what it had: 4 s by
    /// default, so that a frozen one's work goes on within 15 s.
    pub heartbeat: Duration,
    /// `consumer_timeout`: after how long the broker takes back what a consumer has not acknowledged, as its configuration
    /// says; 30 minutes by default, as RabbitMQ's. A group that may hold a message for half of it or longer is refused.
    pub consumer_timeout: Duration,
    /// `connect_timeout`: how long connecting to a node, and each question to the broker, may take; 10 s by default.
    pub connect_timeout: Duration,
    /// `confirm_window`: how many messages a publisher has out at most, unconfirmed; 1,024 by default.
    pub confirm_window: usize,
    /// `attribute_prefix`: what stands before the names of an event's attributes in AMQP headers; `cloudEvents_` by
    /// default, as CloudEvents' binding to AMQP 1.0 has it. Every usual prefix is read.
    pub attribute_prefix: String,
    /// `max_message_bytes`: the largest message, in bytes of key, payload and headers; 16 MiB less 8 KiB by default,
    /// which is what RabbitMQ 4 takes.
    pub max_message_bytes: usize,
}

/// How an `amqps://` connection proves who is who.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// `ca_file`: certificates, as PEM, that are trusted beside the usual ones.
    pub ca_file: Option<String>,
    /// `cert_file`: this program's certificate, as PEM.
    pub cert_file: Option<String>,
    /// `private_key_file`: its private key, as PEM.
    pub private_key_file: Option<String>,
}

/// Of which kind the queues of groups are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum QueueType {
    /// `quorum`: replicated where there are several nodes.
    #[default]
    Quorum,
    /// `classic`: on one node, on its disk.
    Classic,
}

impl QueueType {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        }
    }
}

impl FromStr for QueueType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "quorum" => Ok(Self::Quorum),
            "classic" => Ok(Self::Classic),
            _ => Err("neither `quorum` nor `classic`".to_owned()),
        }
    }
}

/// From version 4 on, RabbitMQ drops a message of a quorum queue that it has handed over twenty times, unless it is told
/// otherwise; before, it does not, and is not to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeliveryLimit {
    /// `off`: queues are declared without a limit where the broker has one by default. A queue that was declared
    /// otherwise, by an older broker, is refused.
    #[default]
    Off,
    /// `policy`: an operator's policy sets `delivery-limit`, for queues that cannot be declared anew.
    Policy,
}

impl FromStr for DeliveryLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "policy" => Ok(Self::Policy),
            _ => Err("neither `off` nor `policy`".to_owned()),
        }
    }
}

/// What RabbitMQ 4 takes in one message.
const MAX_MESSAGE: usize = 16 << 20;
/// Left free for the headers of a dead letter.
const DEAD_LETTER_ROOM: usize = 8 << 10;
pub(crate) const DEFAULT_PARTITIONS: u32 = 16;
/// More would make a join slow: a queue each for every group.
pub(crate) const MAX_PARTITIONS: u32 = 1_024;
pub(crate) const DEFAULT_PREFETCH: u16 = 256;
/// Every prefix by which attributes are known when they are read.
const PREFIXES: [&str; 4] = ["cloudEvents_", "cloudEvents:", "ce_", "ce-"];

impl RabbitMqConfig {
    /// The defaults for a node.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            hosts: vec![(host.into(), port)],
            vhost: "/".to_owned(),
            user: "guest".to_owned(),
            password: "guest".to_owned(),
            tls: None,
            partitions: None,
            prefetch: None,
            create_topics: true,
            queue_type: QueueType::Quorum,
            delivery_limit: DeliveryLimit::Off,
            heartbeat: Duration::from_secs(4),
            consumer_timeout: Duration::from_secs(30 * 60),
            connect_timeout: Duration::from_secs(10),
            confirm_window: 1_024,
            attribute_prefix: PREFIXES[0].to_owned(),
            max_message_bytes: MAX_MESSAGE - DEAD_LETTER_ROOM,
        }
    }

    /// Reads an address.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the option that is wrong or unknown; [`ErrorKind::Unsupported`] for `amqps` in a
    /// program that was built without TLS.
    pub fn from_address(address: &Address) -> Result<Self, Error> {
        let secure = address.scheme == "amqps";
        if secure && !cfg!(feature = "tls") {
            let message = "amqps needs the feature \"tls\" of messaging-rabbitmq, without which this program was built";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let mut config = Self::new("", 0);
        config.hosts = hosts(address, if secure { 5671 } else { 5672 })?;
        config.vhost = vhost(&address.path)?;
        take(&mut config.user, address.user.clone());
        take(&mut config.password, address.password.clone());
        let mut options = address.options();
        if secure {
            config.tls = Some(Tls {
                ca_file: options.take("ca_file")?,
                cert_file: options.take("cert_file")?,
                private_key_file: options.take("private_key_file")?,
            });
        }
        config.partitions = options.take("partitions")?;
        config.prefetch = options.take("prefetch")?;
        take(&mut config.create_topics, options.take("create_topics")?);
        take(&mut config.queue_type, options.take("queue_type")?);
        take(&mut config.delivery_limit, options.take("delivery_limit")?);
        take(&mut config.heartbeat, options.take_duration("heartbeat")?);
        take(&mut config.consumer_timeout, options.take_duration("consumer_timeout")?);
        take(&mut config.connect_timeout, options.take_duration("connect_timeout")?);
        take(&mut config.confirm_window, options.take("confirm_window")?);
        take(&mut config.attribute_prefix, options.take("attribute_prefix")?);
        take(&mut config.max_message_bytes, options.take("max_message_bytes")?);
        options.finish()?;
        config.check()?;
        Ok(config)
    }

    /// Checks that a group never holds a message for so long that the broker takes it back.
    pub(crate) fn check_hold(&self, subscription: &Subscription) -> Result<(), Error> {
        let (hold, limit) = (subscription.max_hold, self.consumer_timeout / 2);
        if hold < limit {
            return Ok(());
        }
        Err(wrong(format!(
            "group {:?} may hold a message for max_hold = {} s, which is not less than half of consumer_timeout = {} s, \
             after which RabbitMQ takes it back",
            subscription.group.as_str(),
            hold.as_secs(),
            self.consumer_timeout.as_secs()
        )))
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let seconds = self.heartbeat.as_secs();
        let fault = if self.hosts.is_empty() {
            "there is no host"
        } else if self.partitions.is_some_and(|partitions| partitions == 0 || partitions > MAX_PARTITIONS) {
            "option \"partitions\" is not between 1 and 1024"
        } else if self.prefetch.is_some_and(|prefetch| prefetch < 2) {
            "option \"prefetch\" is less than 2"
        } else if self.heartbeat.subsec_nanos() != 0 || !(2..=60).contains(&seconds) {
            "option \"heartbeat\" is not a number of whole seconds between 2s and 60s"
        } else if self.connect_timeout.is_zero() {
            "option \"connect_timeout\" is zero"
        } else if self.confirm_window == 0 || self.confirm_window > 65_536 {
            "option \"confirm_window\" is not between 1 and 65536"
        } else if !PREFIXES.contains(&self.attribute_prefix.as_str()) {
            "option \"attribute_prefix\" is none of cloudEvents_ cloudEvents: ce_ ce-"
        } else if self.max_message_bytes < 1 << 10 || self.max_message_bytes > 128 << 20 {
            "option \"max_message_bytes\" is not between 1 KiB and 128 MiB"
        } else {
            return Ok(());
        };
        Err(wrong(fault))
    }
}

fn take<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

fn hosts(address: &Address, port: u16) -> Result<Vec<(String, u16)>, Error> {
    if address.hosts.is_empty() {
        return Err(wrong("an amqp address needs a host, for example amqp://localhost:5672"));
    }
    address.hosts_and_ports(port)
}

/// The virtual host that a path names, in percent-encoding.
fn vhost(path: &str) -> Result<String, Error> {
    if path.is_empty() {
        return Ok("/".to_owned());
    }
    let uri = format!("amqp://host/{path}").parse::<AMQPUri>();
    uri.map(|uri| uri.vhost).map_err(|fault| wrong(format!("the path {path:?} names no virtual host: {fault}")))
}

pub(crate) fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

impl fmt::Debug for RabbitMqConfig {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMqConfig")
            .field("hosts", &self.hosts)
            .field("vhost", &self.vhost)
            .field("user", &self.user)
            .field("tls", &self.tls)
            .field("partitions", &self.partitions)
            .field("prefetch", &self.prefetch)
            .field("queue_type", &self.queue_type)
            .field("heartbeat", &self.heartbeat)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<RabbitMqConfig, String> {
        RabbitMqConfig::from_address(&url.parse().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_its_options() {
        let config = parse("amqp://u:p@a,b:7000/sales%2Feu?partitions=3&prefetch=50&queue_type=classic&heartbeat=8s");
        let config = config.unwrap();
        assert_eq!(config.hosts, [("a".to_owned(), 5672), ("b".to_owned(), 7000)]);
        assert_eq!((config.user.as_str(), config.password.as_str()), ("u", "p"));
        assert_eq!((config.vhost.as_str(), config.partitions, config.prefetch), ("sales/eu", Some(3), Some(50)));
        assert_eq!((config.queue_type, config.heartbeat), (QueueType::Classic, Duration::from_secs(8)));
        let plain = parse("amqp://[::1]").unwrap();
        assert_eq!((plain.hosts[0].0.as_str(), plain.vhost.as_str(), plain.user.as_str()), ("::1", "/", "guest"));
        assert_eq!(parse("amqp://h/%2f").unwrap().vhost, "/");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, named) in [
            ("amqp:", "host"),
            ("amqp://h?partition=3", "\"partition\""),
            ("amqp://h?partitions=0", "\"partitions\""),
            ("amqp://h?prefetch=1", "\"prefetch\""),
            ("amqp://h?queue_type=stream", "\"queue_type\""),
            ("amqp://h?heartbeat=500ms", "\"heartbeat\""),
            ("amqp://h?attribute_prefix=x", "\"attribute_prefix\""),
            ("amqp://h?ca_file=x", "\"ca_file\""),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(named), "{url}: {error}");
        }
    }

    #[test]
    #[cfg(not(feature = "tls"))]
    fn tls_is_refused_where_it_was_not_built_in() {
        assert!(parse("amqps://h").unwrap_err().contains("\"tls\""));
    }

    #[test]
    fn debug_hides_the_password() {
        let config = parse("amqp://u:sesame@h").unwrap();
        assert!(!format!("{config:?}").contains("sesame"));
    }
}
