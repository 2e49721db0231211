//! An Apache Kafka of one's own, one node or several, or the one that `TEST_KAFKA_URL` gives.

mod archive;
mod listener;
mod options;
mod properties;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::process::Command;

use tokio::sync::OnceCell;

use crate::broker::Broker;
use crate::error::Error;
use crate::launch::Launch;

pub use self::listener::Listener;
pub use self::options::KafkaOptions;

/// An Apache Kafka cluster; everything common is in [`Broker`], to which it derefs.
///
/// Each node is broker and controller in one. A topic appears only if someone creates it: automatic creation is off.
#[derive(Debug)]
pub struct Kafka {
    broker: Broker,
    /// `host:port,…` of each further listener.
    listeners: BTreeMap<Listener, String>,
    #[cfg(feature = "tls")]
    certificates: Option<crate::tls::Certificates>,
    /// Java with Kafka's jars, ready for a class and its arguments; nothing if the cluster is not ours.
    java: Option<Launch>,
}

impl Kafka {
    /// Options for a cluster of one's own.
    #[must_use]
    pub fn options() -> KafkaOptions {
        KafkaOptions::default()
    }

    /// A single node for this test alone, with default options.
    ///
    /// # Errors
    /// As [`KafkaOptions::start`].
    pub async fn start_new() -> Result<Self, Error> {
        Self::options().start().await
    }

    /// The single node that all tests of this process share; do not harm it, but harm [routes](Broker::route) to it.
    ///
    /// # Errors
    /// As [`KafkaOptions::start`].
    pub async fn shared() -> Result<&'static Self, Error> {
        static SHARED: OnceCell<Kafka> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start_new).await
    }

    /// The bootstrap servers of a further listener; nothing if it was not asked for.
    #[must_use]
    pub fn listener(&self, listener: Listener) -> Option<&str> {
        self.listeners.get(&listener).map(String::as_str)
    }

    /// The certificates of its TLS listeners; nothing if it has none.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn certificates(&self) -> Option<&crate::tls::Certificates> {
        self.certificates.as_ref()
    }

    /// A command that runs a class of Kafka's own, such as `org.apache.kafka.clients.producer.…` or a tool, with its jars;
    /// for a single Java source file give its path as the class. Arguments can be added.
    ///
    /// # Errors
    /// If the cluster was given.
    pub fn java(&self, class: &str) -> Result<Command, Error> {
        self.broker.control("Java with Kafka's jars")?;
        let launch = self.java.clone().map(|java| java.arg(class));
        let name = format!("test-brokers-java-{}-{:08x}", std::process::id(), fastrand::u32(..));
        Ok(launch.map_or_else(|| Command::new("java"), |java| java.command(&name)))
    }
}

impl Deref for Kafka {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}
