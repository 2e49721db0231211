//! The brokers this crate can give a test, and what they are called where.

use std::fmt;

use crate::address::Address;
use crate::error::Error;

/// A broker (or database) that a test can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Apache Kafka, in KRaft mode.
    Kafka,
    /// Redis, with its append-only file.
    Redis,
    /// RabbitMQ, with an Erlang node and port mapper of its own.
    RabbitMq,
    /// PostgreSQL.
    Postgres,
}

impl Kind {
    /// Every kind, in the order of a summary.
    pub const ALL: [Self; 4] = [Self::Kafka, Self::Redis, Self::RabbitMq, Self::Postgres];

    /// The product's own name, as in `Apache Kafka`.
    #[must_use]
    pub fn product(self) -> &'static str {
        match self {
            Self::Kafka => "Apache Kafka",
            Self::Redis => "Redis",
            Self::RabbitMq => "RabbitMQ",
            Self::Postgres => "PostgreSQL",
        }
    }

    /// The short lower-case name, as in `kafka`: for file names and command lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Redis => "redis",
            Self::RabbitMq => "rabbitmq",
            Self::Postgres => "postgres",
        }
    }

    /// The environment variable whose address is used instead of starting a broker.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Kafka => "TEST_KAFKA_URL",
            Self::Redis => "TEST_REDIS_URL",
            Self::RabbitMq => "TEST_RABBITMQ_URL",
            Self::Postgres => "TEST_POSTGRES_URL",
        }
    }

    /// The kind whose [`name`](Self::name) this is.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn default_port(self) -> u16 {
        match self {
            Self::Kafka => 9092,
            Self::Redis => 6379,
            Self::RabbitMq => 5672,
            Self::Postgres => 5432,
        }
    }

    fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::Kafka => &["kafka", "kafka+ssl", "kafka+tls"],
            Self::Redis => &["redis", "rediss"],
            Self::RabbitMq => &["amqp", "amqps"],
            Self::Postgres => &["postgres", "postgresql"],
        }
    }

    /// The address that the environment gives for this kind; an empty variable counts as none.
    pub(crate) fn given(self) -> Result<Option<Address>, Error> {
        let variable = self.variable();
        let text = match std::env::var(variable) {
            Ok(text) if !text.is_empty() => text,
            Ok(_) | Err(std::env::VarError::NotPresent) => return Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(Error::Address { variable, reason: "it is not UTF-8".into() });
            }
        };
        let address =
            Address::parse(&text, self.default_port()).map_err(|reason| Error::Address { variable, reason })?;
        if !self.schemes().contains(&address.scheme()) {
            let reason = format!("its scheme is {:?}, expected {:?}", address.scheme(), self.schemes());
            return Err(Error::Address { variable, reason });
        }
        Ok(Some(address))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.product())
    }
}
