//! A node's `server.properties`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::error::Error;

/// Properties that this crate has to set itself.
const RESERVED: [&str; 9] = [
    "process.roles",
    "node.id",
    "controller.quorum.voters",
    "controller.listener.names",
    "inter.broker.listener.name",
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "log.dirs",
];

pub(super) struct Properties {
    listeners: Vec<String>,
    advertised: Vec<String>,
    protocols: Vec<String>,
    others: BTreeMap<String, String>,
}

impl Properties {
    /// Defaults for a node of a test: small, quick to form groups, and without topics that appear by accident.
    pub(super) fn new(id: usize, nodes: usize, voters: &[String], data: &Path) -> Self {
        let mut properties =
            Self { listeners: Vec::new(), advertised: Vec::new(), protocols: Vec::new(), others: BTreeMap::new() };
        let replicas = nodes.min(3).to_string();
        let in_sync = if nodes < 3 { "1" } else { "2" };
        let fixed = [
            ("process.roles", "broker,controller"),
            ("node.id", &id.to_string()),
            ("controller.quorum.voters", &voters.join(",")),
            ("controller.listener.names", "CONTROLLER"),
            ("inter.broker.listener.name", "DIRECT"),
            ("log.dirs", &data.to_string_lossy()),
            ("auto.create.topics.enable", "false"),
            ("default.replication.factor", &replicas),
            ("min.insync.replicas", in_sync),
            ("offsets.topic.replication.factor", &replicas),
            ("offsets.topic.num.partitions", "4"),
            ("transaction.state.log.replication.factor", &replicas),
            ("transaction.state.log.min.isr", in_sync),
            ("transaction.state.log.num.partitions", "4"),
            ("share.coordinator.state.topic.replication.factor", &replicas),
            ("share.coordinator.state.topic.min.isr", in_sync),
            ("share.coordinator.state.topic.num.partitions", "4"),
            ("group.initial.rebalance.delay.ms", "0"),
            // A node that was killed is let in again only when its last session has lapsed.
            ("broker.session.timeout.ms", "4000"),
            ("broker.heartbeat.interval.ms", "500"),
            ("num.network.threads", "2"),
            ("num.io.threads", "4"),
            ("background.threads", "4"),
            ("log.cleaner.dedupe.buffer.size", "16777216"),
        ];
        for (name, value) in fixed {
            properties.set(name, value);
        }
        properties
    }

    /// A listener on loopback, and the port by which clients are told to come.
    pub(super) fn listen(&mut self, name: &str, protocol: &str, port: u16, advertised: u16) {
        self.listeners.push(format!("{name}://127.0.0.1:{port}"));
        self.advertised.push(format!("{name}://127.0.0.1:{advertised}"));
        self.protocols.push(format!("{name}:{protocol}"));
    }

    pub(super) fn listen_for_controllers(&mut self, port: u16) {
        self.listeners.push(format!("CONTROLLER://127.0.0.1:{port}"));
        self.protocols.push("CONTROLLER:PLAINTEXT".into());
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.others.insert(name.into(), value.into());
    }

    /// A property of the test's own.
    pub(super) fn set_own(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let refuse = |reason| Err(Error::Setting { setting: name.into(), reason });
        if RESERVED.contains(&name) {
            return refuse("test-brokers sets it itself; see `KafkaOptions`");
        }
        if name.contains(['\n', '=', ':', ' ']) || value.contains('\n') {
            return refuse("it does not fit into a line of a properties file");
        }
        self.set(name, value);
        Ok(())
    }

    /// Authentication by PLAIN and SCRAM. PLAIN's passwords stand here, SCRAM's are in the cluster's metadata.
    pub(super) fn passwords(&mut self, prefix: &str, users: &[(String, String)]) -> Result<(), Error> {
        const MODULES: &str = "org.apache.kafka.common.security";
        let plain =
            |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && !text.is_empty();
        let mut entries = String::new();
        for (name, password) in users {
            if !plain(name) || !plain(password) {
                let setting = format!("user {name:?}");
                return Err(Error::Setting { setting, reason: "name and password take letters, digits and -_. only" });
            }
            // Writing to a string cannot fail.
            let _ = write!(entries, " user_{name}=\"{password}\"");
        }
        self.set(&format!("{prefix}.sasl.enabled.mechanisms"), "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512");
        let module = format!("{MODULES}.plain.PlainLoginModule required{entries};");
        self.set(&format!("{prefix}.plain.sasl.jaas.config"), &module);
        for mechanism in ["scram-sha-256", "scram-sha-512"] {
            let module = format!("{MODULES}.scram.ScramLoginModule required;");
            self.set(&format!("{prefix}.{mechanism}.sasl.jaas.config"), &module);
        }
        Ok(())
    }

    /// TLS with the server's files in this folder.
    #[cfg(feature = "tls")]
    pub(super) fn encryption(&mut self, prefix: &str, folder: &Path, client_certificates: bool) {
        use crate::tls::{AUTHORITY_FILE, SERVER_FILE};
        let stores = [("keystore", SERVER_FILE), ("truststore", AUTHORITY_FILE)];
        for (store, file) in stores {
            self.set(&format!("{prefix}.ssl.{store}.type"), "PEM");
            self.set(&format!("{prefix}.ssl.{store}.location"), &folder.join(file).to_string_lossy());
        }
        let wanted = if client_certificates { "required" } else { "none" };
        self.set(&format!("{prefix}.ssl.client.auth"), wanted);
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        std::fs::write(folder.join("server.properties"), self.render()).map_err(Error::io("writing server.properties"))
    }

    fn render(&self) -> String {
        let mut text = String::new();
        let lists = [
            ("listeners", self.listeners.join(",")),
            ("advertised.listeners", self.advertised.join(",")),
            ("listener.security.protocol.map", self.protocols.join(",")),
        ];
        let others = self.others.iter().map(|(name, value)| (name.as_str(), value.clone()));
        for (name, value) in lists.into_iter().chain(others) {
            // A backslash starts an escape in a properties file. Writing to a string cannot fail.
            let _ = writeln!(text, "{name}={}", value.replace('\\', "\\\\"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties() -> Properties {
        Properties::new(1, 1, &["1@127.0.0.1:9093".into()], Path::new("/data"))
    }

    #[test]
    fn an_own_property_replaces_the_default() {
        let mut properties = properties();
        properties.set_own("auto.create.topics.enable", "true").unwrap();
        let text = properties.render();
        assert_eq!(text.matches("auto.create.topics.enable").count(), 1);
        assert!(text.contains("auto.create.topics.enable=true\n"));
    }

    #[test]
    fn what_would_break_the_node_is_refused_by_name() {
        let error = properties().set_own("listeners", "X://:1").unwrap_err();
        assert!(error.to_string().contains("listeners"), "{error}");
        assert!(properties().set_own("a", "b\nc").is_err());
        assert!(properties().passwords("x", &[("al\"ice".into(), "p".into())]).is_err());
    }
}
