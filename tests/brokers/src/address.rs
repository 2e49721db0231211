//! A broker's URL, taken apart so that a proxy can stand in for its hosts.

use std::fmt;

/// `scheme://user:password@host:port,host:port/rest`, with at least one host. Its `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    scheme: String,
    user_info: Option<String>,
    hosts: Vec<(String, u16)>,
    rest: String,
}

impl Address {
    pub(crate) fn new(scheme: &str, user_info: Option<&str>, hosts: Vec<(String, u16)>, rest: &str) -> Self {
        Self { scheme: scheme.into(), user_info: user_info.map(Into::into), hosts, rest: rest.into() }
    }

    /// An address on loopback: one host per port.
    pub(crate) fn local(
        scheme: &str,
        user_info: Option<&str>,
        ports: impl IntoIterator<Item = u16>,
        rest: &str,
    ) -> Self {
        let hosts = ports.into_iter().map(|port| ("127.0.0.1".into(), port)).collect();
        Self::new(scheme, user_info, hosts, rest)
    }

    pub(crate) fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        let (scheme, after) = text.split_once("://").ok_or("it has no `scheme://`")?;
        let end = after.find(['/', '?']).unwrap_or(after.len());
        let (authority, rest) = after.split_at(end);
        let (user_info, hosts) = match authority.rsplit_once('@') {
            Some((user_info, hosts)) => (Some(user_info.to_owned()), hosts),
            None => (None, authority),
        };
        let hosts = hosts.split(',').map(|host| parse_host(host, default_port)).collect::<Result<_, _>>()?;
        Ok(Self { scheme: scheme.into(), user_info, hosts, rest: rest.into() })
    }

    pub(crate) fn scheme(&self) -> &str {
        &self.scheme
    }

    pub(crate) fn hosts(&self) -> &[(String, u16)] {
        &self.hosts
    }

    /// The same address with other hosts: what a client uses to come through proxies.
    pub(crate) fn with_ports(&self, ports: impl IntoIterator<Item = u16>) -> Self {
        let hosts = ports.into_iter().map(|port| ("127.0.0.1".into(), port)).collect();
        Self { hosts, ..self.clone() }
    }

    /// `host:port,host:port`
    pub(crate) fn authority(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        hosts.join(",")
    }

    pub(crate) fn url(&self) -> String {
        self.render(self.user_info.as_deref())
    }

    fn render(&self, user_info: Option<&str>) -> String {
        let Self { scheme, rest, .. } = self;
        let hosts = self.authority();
        match user_info {
            Some(user_info) => format!("{scheme}://{user_info}@{hosts}{rest}"),
            None => format!("{scheme}://{hosts}{rest}"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user_info = self.user_info.as_deref().map(|user_info| match user_info.split_once(':') {
            Some((user, _)) => format!("{user}:***"),
            None => user_info.to_owned(),
        });
        f.write_str(&self.render(user_info.as_deref()))
    }
}

fn parse_host(host: &str, default_port: u16) -> Result<(String, u16), String> {
    let port_at = host.rfind(':').filter(|at| !host[*at..].contains(']'));
    let (name, port) = match port_at {
        Some(at) => {
            let port = &host[at + 1..];
            (&host[..at], port.parse().map_err(|_| format!("{port:?} is no port"))?)
        }
        None => (host, default_port),
    };
    if name.is_empty() {
        return Err("it names no host".into());
    }
    Ok((name.into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_survives_parsing_and_printing() {
        for url in ["kafka://a:1,b:2", "amqp://guest:p%40ss@h:5672/%2f", "postgres://u:p@h:1/db?sslmode=disable"] {
            assert_eq!(Address::parse(url, 9).unwrap().url(), url);
        }
    }

    #[test]
    fn a_missing_port_is_the_default_one() {
        assert_eq!(Address::parse("redis://h/0", 6379).unwrap().url(), "redis://h:6379/0");
        assert_eq!(Address::parse("redis://[::1]", 6379).unwrap().url(), "redis://[::1]:6379");
    }

    #[test]
    fn debug_hides_the_password() {
        let address = Address::parse("amqp://guest:secret@h:5672", 5672).unwrap();
        assert_eq!(format!("{address:?}"), "amqp://guest:***@h:5672");
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        assert!(Address::parse("localhost:9092", 9092).unwrap_err().contains("scheme"));
        assert!(Address::parse("kafka://h:x", 9092).unwrap_err().contains("port"));
        assert!(Address::parse("kafka://", 9092).unwrap_err().contains("host"));
    }
}
