//! What a Kafka cluster is started with, and the start itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::properties::Properties;
use super::{Kafka, Listener, archive};
use crate::address::Address;
use crate::broker::Broker;
use crate::error::Error;
use crate::kind::Kind;
use crate::launch::{Launch, Place};
use crate::node::{Node, Plan, blocking};
use crate::options::{START_LIMIT, given, node_folder};
use crate::ports::{self, Port};
use crate::programs::{self, Programs};
use crate::proxy::Proxy;
use crate::ready;
use crate::route::Routes;

/// A small machine's Java: little memory, one collector thread, and only the quick compiler.
const JVM: [&str; 3] = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// What a Kafka cluster is started with.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    nodes: usize,
    routes: usize,
    properties: Vec<(String, String)>,
    listeners: Vec<Listener>,
    users: Vec<(String, String)>,
    #[cfg(feature = "tls")]
    client_certificates: bool,
    jvm: Vec<String>,
    limit: Duration,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            routes: 4,
            properties: Vec::new(),
            listeners: Vec::new(),
            users: Vec::new(),
            #[cfg(feature = "tls")]
            client_certificates: false,
            jvm: JVM.map(str::to_owned).to_vec(),
            limit: START_LIMIT,
        }
    }
}

impl KafkaOptions {
    /// How many nodes; one by default. Three replicate every topic by default, and need two to confirm.
    #[must_use]
    pub fn nodes(mut self, count: usize) -> Self {
        self.nodes = count.max(1);
        self
    }

    /// Sets a property of `server.properties` on every node. Later ones win over earlier ones and over the defaults.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// How many [routes](Broker::route) can be lent at the same time; four by default. Each costs a listener per node.
    #[must_use]
    pub fn routes(mut self, count: usize) -> Self {
        self.routes = count;
        self
    }

    /// Adds a listener with encryption, authentication or both.
    #[must_use]
    pub fn listener(mut self, listener: Listener) -> Self {
        if !self.listeners.contains(&listener) {
            self.listeners.push(listener);
        }
        self
    }

    /// Adds a user for the listeners with authentication, by PLAIN and by SCRAM. Letters, digits and `-_.` only.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.users.push((name.into(), password.into()));
        self
    }

    /// Lets the TLS listeners accept only clients with a certificate.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn client_certificates(mut self) -> Self {
        self.client_certificates = true;
        self
    }

    /// Replaces Java's options, which by default suit a small machine: a benchmark wants all compilers and more memory.
    #[must_use]
    pub fn jvm<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.jvm = arguments.into_iter().map(Into::into).collect();
        self
    }

    /// How long a start may take.
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts the cluster and returns when it is ready, or takes the one that `TEST_KAFKA_URL` gives.
    ///
    /// # Errors
    /// If there is none on this machine and none to be had, if it does not start, or if own settings are asked of a
    /// given one.
    pub async fn start(self) -> Result<Kafka, Error> {
        let as_it_is = self.nodes == 1 && self.properties.is_empty() && self.listeners.is_empty();
        if let Some(broker) = given(Kind::Kafka, as_it_is).await? {
            return Ok(Kafka {
                broker,
                listeners: BTreeMap::new(),
                #[cfg(feature = "tls")]
                certificates: None,
                java: None,
            });
        }
        let kafka = blocking(move || self.prepare()).await?;
        kafka.broker.start_nodes().await?;
        Ok(kafka)
    }

    fn prepare(self) -> Result<Kafka, Error> {
        let programs = programs::find(Kind::Kafka)?;
        let archive = archive::find(&programs);
        let seats = self.seats()?;
        let voters: Vec<_> =
            seats.iter().map(|seat| format!("{}@127.0.0.1:{}", seat.id, seat.controller.number())).collect();
        let cluster = cluster_id();
        let limit = self.limit;

        let client_ports: Vec<_> = seats.iter().map(|seat| seat.client.number()).collect();
        let mut listeners = BTreeMap::new();
        for (index, listener) in self.listeners.iter().enumerate() {
            let ports = seats.iter().map(|seat| seat.further[index].number());
            listeners.insert(*listener, Address::local("kafka", None, ports, "").authority());
        }
        #[cfg(feature = "tls")]
        let certificates = if self.listeners.iter().any(|listener| listener.is_encrypted()) {
            Some(crate::tls::Certificates::generate()?)
        } else {
            None
        };

        let mut nodes = Vec::new();
        let mut routes: Vec<Vec<Proxy>> = (0..self.routes).map(|_| Vec::new()).collect();
        let mut java = None;
        for mut seat in seats {
            let folder = node_folder(Kind::Kafka)?;
            #[cfg(feature = "tls")]
            if let Some(certificates) = &certificates {
                certificates.write_server_files(folder.path())?;
            }
            for (route, (port, proxy)) in routes.iter_mut().zip(seat.routes.drain(..)) {
                route.push(proxy);
                seat.route_ports.push(port);
            }
            self.properties_of(&seat, &voters, folder.path(), &routes)?.write(folder.path())?;
            let launch = self.java(&programs, archive.as_deref(), folder.path());
            java.get_or_insert_with(|| launch.clone());
            let format = self.format(&launch, folder.path(), &cluster);
            let node = Node::new(self.plan(seat, folder, launch))?;
            node.prepare_now(&format)?;
            nodes.push(node);
        }
        let address = Address::local("kafka", None, client_ports.clone(), "");
        let (origin, version) = (programs.origin.clone(), programs.version.clone());
        let broker = Broker::ours(Kind::Kafka, origin, version, address, nodes, Routes::pool(routes), limit);
        let broker = broker.ready_together(Arc::new(move || {
            let count = client_ports.len();
            client_ports.iter().try_for_each(|port| ready::kafka_cluster(*port, count).map(|_| ())).map(|()| None)
        }));
        Ok(Kafka {
            broker,
            listeners,
            #[cfg(feature = "tls")]
            certificates,
            java,
        })
    }

    fn seats(&self) -> Result<Vec<Seat>, Error> {
        let seat = |id| {
            let routes = ports::reserve(self.routes)?.into_iter().map(|port| {
                let upstream = std::net::SocketAddr::from(([127, 0, 0, 1], port.number()));
                Ok((port, Proxy::start(upstream)?))
            });
            Ok(Seat {
                id,
                client: Port::reserve()?,
                controller: Port::reserve()?,
                further: ports::reserve(self.listeners.len())?,
                routes: routes.collect::<Result<_, Error>>()?,
                route_ports: Vec::new(),
            })
        };
        (1..=self.nodes).map(seat).collect()
    }

    fn properties_of(
        &self,
        seat: &Seat,
        voters: &[String],
        folder: &Path,
        routes: &[Vec<Proxy>],
    ) -> Result<Properties, Error> {
        let mut properties = Properties::new(seat.id, self.nodes, voters, &folder.join("data"));
        properties.listen("DIRECT", "PLAINTEXT", seat.client.number(), seat.client.number());
        properties.listen_for_controllers(seat.controller.number());
        for (index, (route, port)) in routes.iter().zip(&seat.route_ports).enumerate() {
            let advertised = route.last().map_or(0, Proxy::port);
            let name = format!("ROUTE{index}");
            properties.listen(&name, "PLAINTEXT", port.number(), advertised);
            properties.set(&format!("listener.name.route{index}.num.network.threads"), "1");
        }
        for (listener, port) in self.listeners.iter().zip(&seat.further) {
            properties.listen(listener.name(), listener.security_protocol(), port.number(), port.number());
            let prefix = format!("listener.name.{}", listener.name().to_lowercase());
            if listener.has_passwords() {
                properties.passwords(&prefix, &self.users)?;
            }
            #[cfg(feature = "tls")]
            if listener.is_encrypted() {
                properties.encryption(&prefix, folder, self.client_certificates);
            }
        }
        for (name, value) in &self.properties {
            properties.set_own(name, value)?;
        }
        Ok(properties)
    }

    /// Java with Kafka's jars, without a class yet.
    fn java(&self, programs: &Programs, archive: Option<&Path>, folder: &Path) -> Launch {
        let mut launch = Launch::new(&programs.place, programs.runtime.as_os_str(), folder).args(&self.jvm);
        if let Some(archive) = archive {
            launch = launch.arg(archive::flag("-XX:SharedArchiveFile=", archive));
        }
        with_jars(launch, programs)
    }

    /// Writes the cluster's id and its first metadata, with the users' SCRAM credentials, into an empty data folder.
    fn format(&self, java: &Launch, folder: &Path, cluster: &str) -> Launch {
        let credentials = self.users.iter().flat_map(|(name, password)| {
            ["SCRAM-SHA-256", "SCRAM-SHA-512"].into_iter().flat_map(move |mechanism| {
                ["--add-scram".to_owned(), format!("{mechanism}=[name={name},password={password}]")]
            })
        });
        java.clone()
            .args(["kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config"])
            .arg(folder.join("server.properties"))
            .args(credentials)
    }

    fn plan(&self, seat: Seat, folder: TempDir, java: Launch) -> Plan {
        let (id, port) = (seat.id, seat.client.number());
        let name = match self.nodes {
            1 => Kind::Kafka.name().to_owned(),
            _ => format!("{}-{id}", Kind::Kafka.name()),
        };
        let launch = java.arg("kafka.Kafka").arg(folder.path().join("server.properties"));
        let node_id = i32::try_from(id).unwrap_or(i32::MAX);
        Plan {
            name,
            folder,
            ports: seat.ports(),
            launch,
            stop: Signal::TERM,
            probe: Arc::new(move || ready::kafka_node(port, node_id)),
            limit: self.limit,
        }
    }
}

/// A node's number and ports, before it exists.
struct Seat {
    id: usize,
    client: Port,
    controller: Port,
    further: Vec<Port>,
    /// The port behind each route's proxy, and the proxy.
    routes: Vec<(Port, Proxy)>,
    route_ports: Vec<Port>,
}

impl Seat {
    /// All ports, the clients' first.
    fn ports(self) -> Vec<Port> {
        let mut ports = vec![self.client, self.controller];
        ports.extend(self.further);
        ports.extend(self.route_ports);
        ports
    }
}

/// Adds the jars to Java, and where its log lines go: Kafka's warnings and errors to standard error.
pub(super) fn with_jars(java: Launch, programs: &Programs) -> Launch {
    let level = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn";
    let jars = match programs.place {
        Place::Host => archive::jars(&programs.folder),
        // Java in the container lists the folder itself.
        Place::Container(_) => programs.folder.join("*").into_os_string(),
    };
    java.arg(level).arg("-cp").arg(jars)
}

/// A random cluster id: 16 bytes in URL-safe base 64, whose last character carries two bits only.
pub(super) fn cluster_id() -> String {
    let mut id: String = (0..21).map(|_| fastrand::alphanumeric()).collect();
    id.push('A');
    id
}
