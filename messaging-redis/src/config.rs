//! [`RedisConfig`]: what stands in a `redis://` address, checked.

use std::{fmt, str::FromStr, time::Duration};

use messaging::{Address, Error, ErrorKind};

/// The options of a `redis://user:password@host:port/database?option=value` address; `rediss://` for TLS.
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisConfig {
    /// The host's name or address.
    pub host: String,
    /// Its port; 6379 by default.
    pub port: u16,
    /// The number of the database; 0 by default.
    pub database: i64,
    /// The user of the access control list; none is the server's default user.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// TLS, which `rediss://` asks for.
    pub tls: Option<Tls>,
    /// `partitions`: how many partitions a topic has. New topics are made with so many, 16 by default; if it is given, a
    /// topic that has another number is refused.
    pub partitions: Option<u32>,
    /// `create_topics`: whether missing topics are made; yes by default.
    pub create_topics: bool,
    /// `durability`: what the server must do so that a confirmed message survives the end of its process.
    pub durability: Durability,
    /// `wait`: a publish is confirmed only when so many replicas have it (Redis' `WAIT`); 0 by default.
    pub wait: u32,
    /// `retention`, `retention_length`, `retention_finished`, `retention_unread`: what of a stream is kept.
    pub retention: Retention,
    /// `trim_interval`: how often streams are trimmed; 10 s by default.
    pub trim_interval: Duration,
    /// `lease`: after this long without a sign of life an instance's partitions go to others; 6 s by default.
    pub lease: Duration,
    /// `connect_timeout`: how long connecting may take, with all checks; 5 s by default.
    pub connect_timeout: Duration,
    /// `command_timeout`: how long an answer may take; 2 s by default.
    pub command_timeout: Duration,
    /// `max_message_bytes`: the largest message, in bytes of key, payload and headers; 1 MiB less 8 KiB by default.
    pub max_message_bytes: usize,
    /// `fetch`: about how many messages one read brings; 1,000 by default.
    pub fetch: usize,
    /// `fetch_bytes`: about how many bytes one read brings; 8 MiB by default.
    pub fetch_bytes: usize,
}

/// How a `rediss://` connection proves who is who.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// `ca_file`: certificates, as PEM, that the server's is checked against instead of the usual ones.
    pub ca_file: Option<String>,
    /// `cert_file`: this program's certificate, as PEM.
    pub cert_file: Option<String>,
    /// `private_key_file`: its private key, as PEM.
    pub private_key_file: Option<String>,
}

/// What the server must do so that a confirmed message survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// `disk`: it keeps an append-only file and evicts no key; one that does not is refused.
    #[default]
    Disk,
    /// `memory`: nothing; the capability `durable` is not declared.
    Memory,
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "disk" => Ok(Self::Disk),
            "memory" => Ok(Self::Memory),
            _ => Err("neither `disk` nor `memory`".to_owned()),
        }
    }
}

/// What of a stream may be removed. What a group has not read, or not settled, stays, unless `unread` says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// `retention`: messages older than this go; 7 days by default, `0` for ever.
    pub age: Option<Duration>,
    /// `retention_length`: of each partition the newest so many stay; no bound by default.
    pub length: Option<u64>,
    /// `retention_finished`: what every group has finished goes; not by default. Needs at least one group.
    pub finished: bool,
    /// `retention_unread`: whether messages go by age and length even if a group has not settled them yet.
    pub unread: Unread,
}

/// What becomes of messages past their age or length that a group has not settled yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Unread {
    /// `keep`: they stay until they are settled.
    #[default]
    Keep,
    /// `drop`: they go, and are counted and reported as lost.
    Drop,
}

impl FromStr for Unread {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "keep" => Ok(Self::Keep),
            "drop" => Ok(Self::Drop),
            _ => Err("neither `keep` nor `drop`".to_owned()),
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Some(Duration::from_secs(7 * 86_400)), length: None, finished: false, unread: Unread::Keep }
    }
}

/// Left free for the headers of a dead letter.
const DEAD_LETTER_ROOM: usize = 8 << 10;
pub(crate) const DEFAULT_PARTITIONS: u32 = 16;
/// More would make a join slow and a read's command long.
pub(crate) const MAX_PARTITIONS: u32 = 1_024;

impl RedisConfig {
    /// The defaults for a server.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            database: 0,
            user: None,
            password: None,
            tls: None,
            partitions: None,
            create_topics: true,
            durability: Durability::Disk,
            wait: 0,
            retention: Retention::default(),
            trim_interval: Duration::from_secs(10),
            lease: Duration::from_secs(6),
            connect_timeout: Duration::from_secs(5),
            command_timeout: Duration::from_secs(2),
            max_message_bytes: (1 << 20) - DEAD_LETTER_ROOM,
            fetch: 1_000,
            fetch_bytes: 8 << 20,
        }
    }

    /// Reads an address.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the option that is wrong or unknown; [`ErrorKind::Unsupported`] for more than one
    /// host.
    pub fn from_address(address: &Address) -> Result<Self, Error> {
        let (host, port) = host_and_port(address)?;
        let mut config = Self::new(host, port);
        config.database = match address.path.as_str() {
            "" => 0,
            number => number.parse().ok().filter(|number| *number >= 0).ok_or_else(|| {
                wrong(format!("the path of a redis address is the number of a database, not {number:?}"))
            })?,
        };
        config.user.clone_from(&address.user);
        config.password.clone_from(&address.password);
        let mut options = address.options();
        if address.scheme == "rediss" {
            config.tls = Some(Tls {
                ca_file: options.take("ca_file")?,
                cert_file: options.take("cert_file")?,
                private_key_file: options.take("private_key_file")?,
            });
        }
        config.partitions = options.take("partitions")?;
        take(&mut config.create_topics, options.take("create_topics")?);
        take(&mut config.durability, options.take("durability")?);
        take(&mut config.wait, options.take("wait")?);
        if let Some(age) = options.take_duration("retention")? {
            config.retention.age = Some(age).filter(|age| !age.is_zero());
        }
        config.retention.length = options.take("retention_length")?;
        take(&mut config.retention.finished, options.take("retention_finished")?);
        take(&mut config.retention.unread, options.take("retention_unread")?);
        take(&mut config.trim_interval, options.take_duration("trim_interval")?);
        take(&mut config.lease, options.take_duration("lease")?);
        take(&mut config.connect_timeout, options.take_duration("connect_timeout")?);
        take(&mut config.command_timeout, options.take_duration("command_timeout")?);
        take(&mut config.max_message_bytes, options.take("max_message_bytes")?);
        take(&mut config.fetch, options.take("fetch")?);
        take(&mut config.fetch_bytes, options.take("fetch_bytes")?);
        options.finish()?;
        config.check()?;
        Ok(config)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let fault = if self.partitions.is_some_and(|partitions| partitions == 0 || partitions > MAX_PARTITIONS) {
            "option \"partitions\" is not between 1 and 1024"
        } else if self.lease < Duration::from_secs(1) {
            "option \"lease\" is shorter than 1s: a pause of a moment would cost the partitions"
        } else if self.lease > Duration::from_secs(300) {
            "option \"lease\" is longer than 5m: nobody would take over the work of a dead instance for so long"
        } else if self.command_timeout < Duration::from_millis(50) || self.command_timeout > self.lease / 2 {
            "option \"command_timeout\" is not between 50ms and half of \"lease\""
        } else if self.connect_timeout.is_zero() {
            "option \"connect_timeout\" is zero"
        } else if self.trim_interval < Duration::from_millis(10) {
            "option \"trim_interval\" is shorter than 10ms"
        } else if self.max_message_bytes < 1 << 10 || self.max_message_bytes > 256 << 20 {
            "option \"max_message_bytes\" is not between 1 KiB and 256 MiB"
        } else if self.retention.length == Some(0) {
            "option \"retention_length\" is zero"
        } else if self.fetch == 0 || self.fetch > 100_000 {
            "option \"fetch\" is not between 1 and 100000"
        } else if self.fetch_bytes < 64 << 10 {
            "option \"fetch_bytes\" is less than 64 KiB"
        } else {
            return Ok(());
        };
        Err(wrong(fault))
    }

    /// How long before the end of its lease an owner stops to start handlers: for the difference in speed between the
    /// server's clock and ours, and for the time from the check to the start.
    pub(crate) fn margin(&self) -> Duration {
        self.lease / 12
    }

    /// How long a lease is granted for that has been held for so long: at first for a part of its time only, so that a
    /// member that dies right after it took a dead one's partitions does not hold them up for as long again.
    pub(crate) fn term(&self, held_for: Duration) -> Duration {
        if held_for < self.renewal() { self.lease / 3 } else { self.lease }
    }

    /// How often leases are renewed.
    pub(crate) fn renewal(&self) -> Duration {
        self.lease / 6
    }
}

fn take<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

fn host_and_port(address: &Address) -> Result<(String, u16), Error> {
    let mut hosts = address.hosts_and_ports(6379)?;
    match (hosts.pop(), hosts.is_empty()) {
        (Some(host), true) => Ok(host),
        (None, _) => Err(wrong("a redis address needs a host, for example redis://localhost:6379")),
        (Some(_), false) => Err(Error::new(
            ErrorKind::Unsupported,
            "a redis address with several hosts means a cluster, which is not supported: name one server",
        )),
    }
}

pub(crate) fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

impl fmt::Debug for RedisConfig {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("tls", &self.tls)
            .field("partitions", &self.partitions)
            .field("durability", &self.durability)
            .field("lease", &self.lease)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<RedisConfig, String> {
        RedisConfig::from_address(&url.parse().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_its_options() {
        let config = parse("redis://u:p@h/2?partitions=3&durability=memory&retention=0&lease=3s&command_timeout=1s");
        let config = config.unwrap();
        assert_eq!((config.host.as_str(), config.port, config.database), ("h", 6379, 2));
        assert_eq!((config.user.as_deref(), config.password.as_deref()), (Some("u"), Some("p")));
        assert_eq!((config.partitions, config.durability), (Some(3), Durability::Memory));
        assert_eq!((config.retention.age, config.lease), (None, Duration::from_secs(3)));
        assert_eq!(parse("redis://[::1]:7000").unwrap().host, "::1");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, named) in [
            ("redis:", "host"),
            ("redis://a,b", "cluster"),
            ("redis://h/x", "database"),
            ("redis://h?partition=3", "\"partition\""),
            ("redis://h?partitions=0", "\"partitions\""),
            ("redis://h?durability=none", "\"durability\""),
            ("redis://h?retention_unread=no", "\"retention_unread\""),
            ("redis://h?lease=100ms", "\"lease\""),
            ("redis://h?command_timeout=4s", "\"command_timeout\""),
            ("redis://h?ca_file=x", "\"ca_file\""),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(named), "{url}: {error}");
        }
    }

    #[test]
    fn debug_hides_the_password() {
        let config = parse("redis://u:sesame@h").unwrap();
        assert!(!format!("{config:?}").contains("sesame"));
    }
}
