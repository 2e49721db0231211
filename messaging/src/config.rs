//! [`MessagingConfig`]: which backend, by its URL or by variables of the environment, and what every message carries.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use crate::{
    address::Address,
    codec::Codecs,
    error::{Error, ErrorKind},
    name::Name,
    publish::Encoder,
    trace::TracePropagator,
};

/// The variable that holds a whole URL.
pub const MESSAGING_URL: &str = "MESSAGING_URL";
/// The variable that holds the backend's name, beside its address variable.
pub const MESSAGING_BROKER: &str = "MESSAGING_BROKER";

/// The address variable of each backend, its scheme, and whether the variable holds a whole URL.
const ADDRESS_VARIABLES: [(&str, &str, bool); 3] =
    [("KAFKA_BOOTSTRAP_SERVERS", "kafka", false), ("REDIS_URL", "redis", true), ("RABBITMQ_URL", "amqp", true)];

/// What [`configure_messaging`](crate::configure_messaging) is given: the broker's address, and what every message of
/// this program carries.
#[derive(Clone)]
pub struct MessagingConfig {
    pub(crate) address: Address,
    pub(crate) source: Name,
    pub(crate) publish_deadline: Duration,
    pub(crate) codecs: Codecs,
    pub(crate) trace_propagator: Option<Arc<dyn TracePropagator>>,
}

impl MessagingConfig {
    /// A broker by its URL: `memory:`, `kafka://host:9092`, `redis://host:6379`, `amqp://host:5672`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the URL does not parse; secrets in it are not repeated.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        Ok(Self::from_address(url.parse()?))
    }

    /// A broker by its name and address, as in `configure_messaging(broker = …, bootstrap_servers = …)`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the name or address does not parse.
    pub fn from_broker(broker: &str, address: &str) -> Result<Self, Error> {
        Self::from_url(&format!("{broker}://{address}"))
    }

    /// From the environment: `MESSAGING_URL`; or one address variable (`KAFKA_BOOTSTRAP_SERVERS`, `REDIS_URL`,
    /// `RABBITMQ_URL`), which selects its broker, with or without `MESSAGING_BROKER`.
    ///
    /// # Errors
    /// As [`from_variables`](Self::from_variables).
    pub fn from_env() -> Result<Self, Error> {
        Self::from_variables(std::env::vars())
    }

    /// From variables as they stand in an environment; others are ignored.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the variables: none is set, two contradict each other, or one does not parse.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, Error> {
        let set: BTreeMap<String, String> =
            variables.into_iter().filter(|(_, value)| !value.trim().is_empty()).collect();
        let url = set.get(MESSAGING_URL);
        let broker = set.get(MESSAGING_BROKER);
        let mut addresses = ADDRESS_VARIABLES.iter().filter_map(|(name, scheme, is_url)| {
            set.get(*name)
                .map(|value| (*name, *scheme, if *is_url { value.clone() } else { format!("{scheme}://{value}") }))
        });
        let address = addresses.next();
        if let (Some((first, ..)), Some((second, ..))) = (&address, addresses.next()) {
            return Err(both(first, second));
        }
        match (url, broker, address) {
            (Some(_), Some(_), _) => Err(both(MESSAGING_URL, MESSAGING_BROKER)),
            (Some(_), _, Some((name, ..))) => Err(both(MESSAGING_URL, name)),
            (Some(url), None, None) => in_variable(MESSAGING_URL, url),
            (None, Some(broker), None) if broker == "memory" => Self::from_url("memory:"),
            (None, Some(broker), None) => Err(config(format!(
                "{MESSAGING_BROKER}={broker:?} needs the broker's address in {}",
                address_variable(broker).unwrap_or(MESSAGING_URL)
            ))),
            (None, Some(broker), Some((name, scheme, _))) if !is_broker(broker, scheme) => Err(config(format!(
                "{MESSAGING_BROKER}={broker:?} contradicts {name}, which is an address of {scheme}"
            ))),
            (None, _, Some((name, _, url))) => in_variable(name, &url),
            (None, None, None) => Err(config(format!(
                "no broker is configured: set {MESSAGING_URL} (for example kafka://localhost:9092, redis://localhost:6379, \
                 amqp://localhost:5672 or memory:) or one of KAFKA_BOOTSTRAP_SERVERS, REDIS_URL, RABBITMQ_URL"
            ))),
        }
    }

    /// A broker by its parsed address.
    #[must_use]
    pub fn from_address(address: Address) -> Self {
        Self {
            address,
            source: Name::from_static("messaging"),
            publish_deadline: Duration::from_secs(30),
            codecs: Codecs::default(),
            trace_propagator: None,
        }
    }

    /// The source of this program's events (CloudEvents `source`), usually the service's name.
    #[must_use]
    pub fn source(mut self, source: impl Into<Name>) -> Self {
        self.source = source.into();
        self
    }

    /// After this long without the broker's answer a publish is *unknown*; 30 s by default.
    #[must_use]
    pub fn publish_deadline(mut self, deadline: Duration) -> Self {
        self.publish_deadline = deadline;
        self
    }

    /// Codecs beside JSON.
    #[must_use]
    pub fn codecs(mut self, codecs: Codecs) -> Self {
        self.codecs = codecs;
        self
    }

    /// Joins spans to the traces of other processes; without one events carry no trace of their own.
    #[must_use]
    pub fn trace_propagator(mut self, propagator: Arc<dyn TracePropagator>) -> Self {
        self.trace_propagator = Some(propagator);
        self
    }

    /// Makes messages as a connection with this configuration does. It needs no broker.
    #[must_use]
    pub fn encoder(&self) -> Encoder {
        Encoder::new(self.source.clone(), self.codecs.clone(), self.trace_propagator.clone())
    }

    /// The broker's address.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl fmt::Debug for MessagingConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessagingConfig")
            .field("address", &self.address)
            .field("source", &self.source)
            .field("publish_deadline", &self.publish_deadline)
            .field("codecs", &self.codecs)
            .finish_non_exhaustive()
    }
}

fn in_variable(name: &str, url: &str) -> Result<MessagingConfig, Error> {
    MessagingConfig::from_url(url).map_err(|error| config(format!("{name}: {error}")))
}

fn address_variable(broker: &str) -> Option<&'static str> {
    ADDRESS_VARIABLES.iter().find(|(_, scheme, _)| is_broker(broker, scheme)).map(|(name, ..)| *name)
}

fn is_broker(name: &str, scheme: &str) -> bool {
    name == scheme || (name == "rabbitmq" && scheme == "amqp")
}

fn both(first: &str, second: &str) -> Error {
    config(format!("both {first} and {second} are set: they name the broker twice, keep one"))
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}
#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<MessagingConfig, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        MessagingConfig::from_variables(variables).map_err(|error| error.to_string())
    }

    #[test]
    fn one_address_variable_selects_its_broker() {
        let config = from(&[("KAFKA_BOOTSTRAP_SERVERS", "a:9092,b:9093"), ("PATH", "/bin")]).unwrap();
        assert_eq!((config.address.scheme.as_str(), config.address.hosts.len()), ("kafka", 2));
        let config = from(&[("MESSAGING_BROKER", "rabbitmq"), ("RABBITMQ_URL", "amqp://h:5672/vhost")]).unwrap();
        assert_eq!((config.address.scheme.as_str(), config.address.path.as_str()), ("amqp", "vhost"));
        assert_eq!(from(&[("MESSAGING_BROKER", "memory")]).unwrap().address.scheme, "memory");
    }

    #[test]
    fn contradictions_name_both_variables() {
        let kafka = ("KAFKA_BOOTSTRAP_SERVERS", "a:1");
        for (other, value) in [("MESSAGING_URL", "redis://h"), ("REDIS_URL", "redis://h")] {
            let error = from(&[kafka, (other, value)]).unwrap_err();
            assert!(error.contains(kafka.0) && error.contains(other), "{error}");
        }
        let error = from(&[kafka, ("MESSAGING_BROKER", "redis")]).unwrap_err();
        assert!(error.contains("MESSAGING_BROKER") && error.contains(kafka.0), "{error}");
        assert!(from(&[]).unwrap_err().contains("MESSAGING_URL"));
        assert!(from(&[("MESSAGING_BROKER", "kafka")]).unwrap_err().contains("KAFKA_BOOTSTRAP_SERVERS"));
    }
}
