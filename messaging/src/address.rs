//! [`Address`]: where a broker is, and its [`Options`].

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use crate::error::{BoxError, Error, ErrorKind};

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
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| config("the user or the password of a broker's URL is no UTF-8".to_owned()))
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

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MessagingConfig;

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

    #[test]
    fn credentials_are_decoded_as_in_a_url() {
        for (url, user, password) in [
            ("amqp://a:b+c@h", "a", "b+c"),
            ("amqp://a%40b:c%3Ad@h", "a@b", "c:d"),
            ("amqp://a:b&c=d&e=@h", "a", "b&c=d&e="),
            ("amqp://a:b=@h", "a", "b="),
        ] {
            let address: Address = url.parse().unwrap();
            assert_eq!((address.user.as_deref(), address.password.as_deref()), (Some(user), Some(password)), "{url}");
            assert_eq!(address.to_client_url().parse::<Address>().unwrap(), address);
        }
        assert!("amqp://a:%FF@h".parse::<Address>().unwrap_err().to_string().contains("password"));
    }
}
