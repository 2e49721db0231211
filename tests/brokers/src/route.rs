//! A way to a broker that leads through proxies, one per node, and belongs to one test at a time.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use crate::address::Address;
use crate::error::Error;
use crate::proxy::{Faults, Proxy};

/// A broker's address through proxies of its own. Dropping it ends its faults and its connections.
#[derive(Debug)]
pub struct Route {
    address: Address,
    proxies: Vec<Proxy>,
    /// Where the proxies go back to, if they were lent.
    home: Option<mpsc::UnboundedSender<Vec<Proxy>>>,
}

impl Route {
    /// The broker's URL through the proxies.
    #[must_use]
    pub fn url(&self) -> String {
        self.address.url()
    }

    /// `host:port` of the proxies, several with commas: what Kafka's clients call bootstrap servers.
    #[must_use]
    pub fn authority(&self) -> String {
        self.address.authority()
    }

    /// The proxies, one per node in the nodes' order.
    #[must_use]
    pub fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    /// From now on these faults on every node's proxy. A cut counts for each proxy by itself.
    pub fn set(&self, faults: &Faults) {
        for proxy in &self.proxies {
            proxy.set(faults.clone());
        }
    }

    /// No faults any more.
    pub fn heal(&self) {
        self.set(&Faults::default());
    }

    /// Resets every open connection.
    pub fn reset(&self) {
        for proxy in &self.proxies {
            proxy.reset();
        }
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            // The next borrower gets it clean.
            self.heal();
            self.reset();
            // Fails only if the broker is gone, and the proxies with it.
            let _ = home.send(std::mem::take(&mut self.proxies));
        }
    }
}

/// Where a broker's routes come from.
#[derive(Debug)]
pub(crate) enum Routes {
    /// Made when asked for: clients come back to the address they were given.
    Any,
    /// Made with the broker, which tells its clients where to connect (Kafka's advertised listeners), and lent.
    Pool { free: Mutex<mpsc::UnboundedReceiver<Vec<Proxy>>>, home: mpsc::UnboundedSender<Vec<Proxy>>, count: usize },
    /// Impossible: the broker tells its clients where to connect, and it is not ours to tell it.
    None,
}

impl Routes {
    /// Each element holds one route's proxies.
    pub(crate) fn pool(routes: Vec<Vec<Proxy>>) -> Self {
        let (home, free) = mpsc::unbounded_channel();
        let count = routes.len();
        for proxies in routes {
            // The receiver is right here.
            let _ = home.send(proxies);
        }
        Self::Pool { free: Mutex::new(free), home, count }
    }

    /// A route to the broker at this address; `None` if there can be none.
    pub(crate) async fn take(&self, address: &Address) -> Result<Option<Route>, Error> {
        const LIMIT: Duration = Duration::from_secs(120);
        let (proxies, home) = match self {
            Self::None => return Ok(None),
            Self::Any => (proxies_to(address)?, None),
            Self::Pool { free, home, count } => {
                let next = async { free.lock().await.recv().await };
                let lent = tokio::time::timeout(LIMIT, next).await.ok().flatten().ok_or_else(|| Error::Deadline {
                    what: "waiting for a route to Kafka".into(),
                    limit: LIMIT,
                    last: format!("all {count} are lent; `KafkaOptions::routes` makes more"),
                    log: String::new(),
                })?;
                (lent, Some(home.clone()))
            }
        };
        let address = address.with_ports(proxies.iter().map(Proxy::port));
        Ok(Some(Route { address, proxies, home }))
    }
}

fn proxies_to(address: &Address) -> Result<Vec<Proxy>, Error> {
    address.hosts().iter().map(|(host, port)| Proxy::start(resolve(host, *port)?)).collect()
}

pub(crate) fn resolve(host: &str, port: u16) -> Result<SocketAddr, Error> {
    let failed = || Error::io(format!("resolving {host}"));
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let mut found = (plain, port).to_socket_addrs().map_err(failed())?;
    found.next().ok_or_else(|| failed()(std::io::Error::other("it has no address")))
}
