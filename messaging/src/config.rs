//! Which backend, and with which options: [`MessagingConfig`], and the [`Address`] that it comes down to.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc, time::Duration};

use crate::{
    codec::Codecs,
    error::{BoxError, Error, ErrorKind},
    name::Name,
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

/// A broker's address: `scheme://user:password@host:port,host:port/path?option=value`.
///
/// Printing it, also by `Debug`, shows neither the password nor options that sound like one.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// Which backend.
    pub scheme: String,
    /// The user, decoded.
    pub user: Option<String>,
    /// The password, decoded.
    pub password: Option<String>,
    /// `host:port`, or a host alone; empty for a backend without one.
    pub hosts: Vec<String>,
    /// What stands after the hosts, without its first slash: a database, a virtual host.
    pub path: String,
    options: BTreeMap<String, String>,
}

impl Address {
    /// Reads the options one by one; each backend takes those that it knows.
    #[must_use]
    pub fn options(&self) -> Options {
        Options { scheme: self.scheme.clone(), left: self.options.clone(), known: Vec::new() }
    }

    /// Each host with its port, `default` where it has none; an IPv6 address without its brackets.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the port that is none.
    pub fn hosts_and_ports(&self, default: u16) -> Result<Vec<(String, u16)>, Error> {
        let parse = |host: &String| {
            // Without brackets an IPv6 address has no port.
            let has_port = |name: &str| !name.contains(':') || name.ends_with(']');
            let (name, port) = match host.rsplit_once(':').filter(|(name, _)| has_port(name)) {
                Some((name, port)) => {
                    let fault = |_| Error::new(ErrorKind::Config, format!("{port:?} is no port"));
                    (name, port.parse().map_err(fault)?)
                }
                None => (host.as_str(), default),
            };
            Ok((name.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
        };
        self.hosts.iter().map(parse).collect()
    }

    /// The address as a URL with its secrets, for a client that wants one; without the options.
    #[must_use]
    pub fn to_client_url(&self) -> String {
        let encode =
            |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20");
        let credentials = match (&self.user, &self.password) {
            (None, None) => String::new(),
            (user, None) => format!("{}@", encode(user.as_deref().unwrap_or_default())),
            (user, Some(password)) => format!("{}:{}@", encode(user.as_deref().unwrap_or_default()), encode(password)),
        };
        let path = if self.path.is_empty() { String::new() } else { format!("/{}", self.path) };
        format!("{}://{credentials}{}{path}", self.scheme, self.hosts.join(","))
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let (scheme, rest) = url.trim().split_once(':').ok_or_else(|| {
            config("a broker's URL begins with its scheme, for example kafka://localhost:9092".to_owned())
        })?;
        let valid_scheme =
            !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        if !valid_scheme {
            return Err(config("a broker's URL begins with its scheme, for example kafka://localhost:9092".to_owned()));
        }
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        let (user, password) = match credentials {
            None => (None, None),
            Some(credentials) => match credentials.split_once(':') {
                Some((user, password)) => (Some(decode(user)?), Some(decode(password)?)),
                None => (Some(decode(credentials)?), None),
            },
        };
        let hosts: Vec<String> =
            if hosts.is_empty() { Vec::new() } else { hosts.split(',').map(str::to_owned).collect() };
        for host in &hosts {
            check_host(host)?;
        }
        let mut options = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if options.insert(name.to_string(), value.to_string()).is_some() {
                return Err(config(format!("option {name:?} is given twice")));
            }
        }
        let user = user.filter(|user| !user.is_empty());
        Ok(Self { scheme: scheme.to_ascii_lowercase(), user, password, hosts, path: path.to_owned(), options })
    }
}

fn check_host(host: &str) -> Result<(), Error> {
    let port =
        host.rsplit_once(':').filter(|(name, _)| !name.contains(':') || name.ends_with(']')).map(|(_, port)| port);
    let valid_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    if host.is_empty() || !valid_port || host.contains(char::is_whitespace) {
        return Err(config(format!("host {host:?} is neither `host` nor `host:port`")));
    }
    Ok(())
}

fn decode(text: &str) -> Result<String, Error> {
    // As in a URL's user part: `+` is itself.
    let shielded = text.replace('+', "%2B");
    let mut decoded = url::form_urlencoded::parse(shielded.as_bytes()).map(|(name, value)| match value.is_empty() {
        true => name.into_owned(),
        false => format!("{name}={value}"),
    });
    Ok(decoded.next().unwrap_or_default())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        if !self.hosts.is_empty() {
            let user = self.user.as_deref().unwrap_or_default();
            let credentials = match (&self.user, &self.password) {
                (None, None) => String::new(),
                (_, None) => format!("{user}@"),
                (_, Some(_)) => format!("{user}:***@"),
            };
            write!(f, "//{credentials}{}", self.hosts.join(","))?;
        }
        if !self.path.is_empty() {
            write!(f, "/{}", self.path)?;
        }
        for (index, (name, value)) in self.options.iter().enumerate() {
            let value = if is_secret(name) { "***" } else { value };
            write!(f, "{}{name}={value}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

fn is_secret(option: &str) -> bool {
    let option = option.to_ascii_lowercase();
    ["password", "passwd", "secret", "token", "key", "credential", "jaas"].iter().any(|word| option.contains(word))
}

/// The options of an [`Address`], taken one by one; what nobody takes is refused by name.
#[derive(Debug)]
pub struct Options {
    scheme: String,
    left: BTreeMap<String, String>,
    known: Vec<&'static str>,
}

impl Options {
    /// Takes an option, parsed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the option, if its value does not parse; a secret's value is not repeated.
    pub fn take<T: FromStr>(&mut self, name: &'static str) -> Result<Option<T>, Error>
    where
        T::Err: Into<BoxError>,
    {
        self.known.push(name);
        let Some(value) = self.left.remove(name) else { return Ok(None) };
        let shown = if is_secret(name) { "***".to_owned() } else { format!("{value:?}") };
        let parsed = value.parse().map_err(|error: T::Err| {
            config(format!("option {name:?} of {}: {shown} is not valid", self.scheme)).with_source(error)
        });
        parsed.map(Some)
    }

    /// Takes a duration: `250ms`, `30s`, `5m`, `7d`, or a number of milliseconds.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_duration(&mut self, name: &'static str) -> Result<Option<Duration>, Error> {
        let Some(text) = self.take::<String>(name)? else { return Ok(None) };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let millis = match &text[digits.len()..] {
            "" | "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => 0,
        };
        match digits.parse::<u64>() {
            Ok(number) if millis > 0 => Ok(Some(Duration::from_millis(number.saturating_mul(millis)))),
            _ => {
                Err(config(format!("option {name:?} of {}: {text:?} is no duration (250ms, 30s, 5m, 7d)", self.scheme)))
            }
        }
    }

    /// Takes every option whose name begins with `prefix`, as (rest of the name, value).
    pub fn take_prefixed(&mut self, prefix: &str) -> Vec<(String, String)> {
        let names: Vec<String> = self.left.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        names.into_iter().filter_map(|name| Some((name[prefix.len()..].to_owned(), self.left.remove(&name)?))).collect()
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the first option that nobody took, and those that there are.
    pub fn finish(self) -> Result<(), Error> {
        let Some(unknown) = self.left.keys().next() else { return Ok(()) };
        let known = if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") };
        Err(config(format!("unknown option {unknown:?} of {}; it has: {known}", self.scheme)))
    }
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

    #[test]
    fn secrets_never_show() {
        let url = "kafka://me:p%40ss+w@h:9092/x?sasl.password=hidden&acks=all";
        let address: Address = url.parse().unwrap();
        assert_eq!(address.password.as_deref(), Some("p@ss+w"));
        for shown in [address.to_string(), format!("{address:?}"), format!("{:?}", MessagingConfig::from_url(url))] {
            assert!(!shown.contains("p@ss") && !shown.contains("hidden") && !shown.contains("p%40"), "{shown}");
            assert!(shown.contains("acks=all"), "{shown}");
        }
        let mut options = address.options();
        let error = options.take::<u32>("sasl.password").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hidden"), "{error:?}");
    }

    #[test]
    fn unknown_options_are_refused_by_name_with_those_that_there_are() {
        let address: Address = "memory:?partitions=4&retentoin=5".parse().unwrap();
        let mut options = address.options();
        assert_eq!(options.take::<u32>("partitions").unwrap(), Some(4));
        assert_eq!(options.take_duration("retention").unwrap(), None);
        let error = options.finish().unwrap_err().to_string();
        assert!(error.contains("retentoin") && error.contains("partitions, retention"), "{error}");
    }

    #[test]
    fn malformed_addresses_say_what_is_wrong() {
        for (url, word) in [
            ("localhost", "scheme"),
            ("kafka://h:port", "h:port"),
            ("kafka://a,,b", "host"),
            ("k://h?a=1&a=2", "twice"),
        ] {
            let error = url.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
