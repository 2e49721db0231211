//! What all brokers have in common: an address, nodes to control, routes that can be harmed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::error::Error;
use crate::kind::Kind;
use crate::node::{Node, Probe, blocking};
use crate::process::GLANCE;
use crate::programs::Origin;
use crate::route::{Route, Routes};

/// A broker that a test can use: started by this process, or given by an environment variable.
///
/// One that was given is used as it is: its address and routes work, control is refused with [`Error::NotOurs`].
pub struct Broker {
    kind: Kind,
    origin: Origin,
    version: Option<String>,
    address: Address,
    nodes: Vec<Node>,
    routes: Routes,
    /// Asked after all nodes were started together.
    together: Option<Probe>,
    limit: Duration,
}

impl Broker {
    pub(crate) fn ours(
        kind: Kind,
        origin: Origin,
        version: String,
        address: Address,
        nodes: Vec<Node>,
        routes: Routes,
        limit: Duration,
    ) -> Self {
        Self { kind, origin, version: Some(version), address, nodes, routes, together: None, limit }
    }

    pub(crate) fn given(kind: Kind, address: Address) -> Self {
        let routes = if kind == Kind::Kafka { Routes::None } else { Routes::Any };
        let origin = Origin::Given(kind.variable());
        let limit = Duration::ZERO;
        Self { kind, origin, version: None, address, nodes: Vec::new(), routes, together: None, limit }
    }

    pub(crate) fn ready_together(mut self, probe: Probe) -> Self {
        self.together = Some(probe);
        self
    }

    /// Which broker this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it came from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Its version; unknown for one that was given.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Its URL, with user and password where it has any; several Kafka nodes as `kafka://host:port,host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        self.address.url()
    }

    /// `host:port`, several with commas: what Kafka's clients call bootstrap servers.
    #[must_use]
    pub fn authority(&self) -> String {
        self.address.authority()
    }

    /// The port of its first node.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.hosts().first().map_or_else(|| self.kind.default_port(), |(_, port)| *port)
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// A way to it that leads through proxies, for this caller alone. Any number of them can be had, except to Kafka, whose
    /// routes are made with it: if all are lent, this waits for one, two minutes at most.
    ///
    /// # Errors
    /// For a Kafka that was given, which advertises its own addresses; if no port can be had; if no route comes back.
    pub async fn route(&self) -> Result<Route, Error> {
        self.routes.take(&self.address).await?.ok_or_else(|| self.not_ours("a route through a proxy"))
    }

    /// Its processes, each to be controlled by itself.
    ///
    /// # Errors
    /// If it was given.
    pub fn nodes(&self) -> Result<&[Node], Error> {
        self.control("control of single nodes")
    }

    /// The socket address of each node.
    #[must_use]
    pub fn node_addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| SocketAddr::from(([127, 0, 0, 1], node.port()))).collect()
    }

    /// Starts all nodes on the ports and data they had, and returns when all are ready.
    ///
    /// # Errors
    /// If it was given, and as [`Node::start`].
    pub async fn start(&self) -> Result<(), Error> {
        self.control("start")?;
        self.start_nodes().await
    }

    pub(crate) async fn start_nodes(&self) -> Result<(), Error> {
        all(&self.nodes, |node| async move { node.start().await }).await?;
        let Some(probe) = self.together.clone() else { return Ok(()) };
        let (kind, limit) = (self.kind, self.limit);
        blocking(move || {
            let deadline = Instant::now() + limit;
            while let Err(last) = probe() {
                if Instant::now() > deadline {
                    let what = format!("starting all nodes of {kind}");
                    return Err(Error::Deadline { what, limit, last, log: String::new() });
                }
                std::thread::sleep(GLANCE);
            }
            Ok(())
        })
        .await
    }

    /// Asks all nodes to stop, and returns when they have.
    ///
    /// # Errors
    /// If it was given, and as [`Node::stop`].
    pub async fn stop(&self) -> Result<(), Error> {
        all(self.control("stop")?, |node| async move { node.stop().await }).await
    }

    /// `kill -9` for all nodes.
    ///
    /// # Errors
    /// If it was given, and as [`Node::kill`].
    pub async fn kill(&self) -> Result<(), Error> {
        all(self.control("kill")?, |node| async move { node.kill().await }).await
    }

    /// Freezes all nodes.
    ///
    /// # Errors
    /// If it was given, and as [`Node::pause`].
    pub async fn pause(&self) -> Result<(), Error> {
        all(self.control("pause")?, |node| async move { node.pause().await }).await
    }

    /// Lets all nodes go on.
    ///
    /// # Errors
    /// If it was given, and as [`Node::resume`].
    pub async fn resume(&self) -> Result<(), Error> {
        all(self.control("resume")?, |node| async move { node.resume().await }).await
    }

    /// Stops all nodes gracefully, then starts them again.
    ///
    /// # Errors
    /// As [`stop`](Self::stop) and [`start`](Self::start).
    pub async fn restart(&self) -> Result<(), Error> {
        self.stop().await?;
        self.start().await
    }

    pub(crate) fn control(&self, action: &str) -> Result<&[Node], Error> {
        if self.nodes.is_empty() { Err(self.not_ours(action)) } else { Ok(&self.nodes) }
    }

    fn not_ours(&self, action: &str) -> Error {
        not_ours(self.kind, action)
    }
}

/// The refusal for what only an own broker can do.
pub(crate) fn not_ours(kind: Kind, action: &str) -> Error {
    Error::NotOurs { action: action.into(), kind, variable: kind.variable() }
}

/// Does something to all nodes at the same time; the first failure counts, after all are through.
async fn all<F, Done>(nodes: &[Node], action: F) -> Result<(), Error>
where
    F: Fn(Node) -> Done,
    Done: Future<Output = Result<(), Error>> + Send + 'static,
{
    let tasks: Vec<_> = nodes.iter().map(|node| tokio::spawn(action(node.clone()))).collect();
    let mut result = Ok(());
    for task in tasks {
        let done = task.await.unwrap_or_else(|error| Err(Error::io("a task")(std::io::Error::other(error))));
        result = result.and(done);
    }
    result
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("kind", &self.kind)
            .field("origin", &self.origin)
            .field("version", &self.version)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
