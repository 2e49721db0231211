//! A Redis server of one's own, or the one that `TEST_REDIS_URL` gives.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::OnceCell;

use crate::address::Address;
use crate::broker::Broker;
use crate::error::Error;
use crate::kind::Kind;
use crate::launch::Launch;
use crate::node::{Node, Plan, blocking};
use crate::options::{START_LIMIT, given, node_folder};
use crate::ports;
use crate::programs;
use crate::ready;
use crate::route::Routes;
#[cfg(feature = "tls")]
use crate::tls::Certificates;

/// A Redis server; everything common is in [`Broker`], to which it derefs.
#[derive(Debug)]
pub struct Redis {
    broker: Broker,
    #[cfg(feature = "tls")]
    encrypted: Option<Encrypted>,
}

/// A further port of a server, for TLS alone.
#[cfg(feature = "tls")]
#[derive(Debug)]
struct Encrypted {
    port: u16,
    certificates: Certificates,
}

/// What a Redis server is started with.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    arguments: Vec<String>,
    #[cfg(feature = "tls")]
    tls: bool,
    limit: Duration,
}

impl Redis {
    /// Options for a server of one's own.
    #[must_use]
    pub fn options() -> RedisOptions {
        RedisOptions {
            arguments: Vec::new(),
            #[cfg(feature = "tls")]
            tls: false,
            limit: START_LIMIT,
        }
    }

    /// The port and the certificates for TLS; nothing if that was not asked for.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(&self) -> Option<(u16, &Certificates)> {
        self.encrypted.as_ref().map(|encrypted| (encrypted.port, &encrypted.certificates))
    }

    /// A server for this test alone, with default options.
    ///
    /// # Errors
    /// As [`RedisOptions::start`].
    pub async fn start_new() -> Result<Self, Error> {
        Self::options().start().await
    }

    /// The server that all tests of this process share; do not harm it.
    ///
    /// # Errors
    /// As [`RedisOptions::start`].
    pub async fn shared() -> Result<&'static Self, Error> {
        static SHARED: OnceCell<Redis> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start_new).await
    }
}

impl RedisOptions {
    /// Adds an argument of `redis-server`, such as `--maxmemory` and then `1mb`. Later ones win over earlier ones and
    /// over the defaults: an append-only file synced every second, no snapshots.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// A further port for TLS. A client need not show a certificate, but one that it shows is checked.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// How long a start may take.
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts the server and returns when it is ready, or takes the one that `TEST_REDIS_URL` gives.
    ///
    /// # Errors
    /// If there is none on this machine and none to be had, if it does not start, or if own settings are asked of a
    /// given one.
    pub async fn start(self) -> Result<Redis, Error> {
        if let Some(broker) = given(Kind::Redis, self.is_default()).await? {
            return Ok(Redis {
                broker,
                #[cfg(feature = "tls")]
                encrypted: None,
            });
        }
        let redis = blocking(move || self.prepare()).await?;
        redis.broker.start_nodes().await?;
        Ok(redis)
    }

    fn is_default(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls {
            return false;
        }
        self.arguments.is_empty()
    }

    fn prepare(self) -> Result<Redis, Error> {
        let programs = programs::find(Kind::Redis)?;
        let folder = node_folder(Kind::Redis)?;
        // For clients, for clients by TLS, and for other nodes: by default that is the first and 10,000, where any outgoing
        // connection may be.
        let ports = ports::reserve(3)?;
        let (port, nodes_port) = (ports[0].number(), ports[2].number());
        let launch = Launch::new(&programs.place, programs.program("redis-server"), folder.path())
            .envs(&programs.environment)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"])
            .args(["--cluster-port", &nodes_port.to_string()])
            .args(["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]);
        #[cfg(feature = "tls")]
        let (launch, encrypted) = match self.tls {
            false => (launch, None),
            true => {
                let encrypted = Encrypted { port: ports[1].number(), certificates: Certificates::generate()? };
                (encrypted.launch(launch, folder.path())?, Some(encrypted))
            }
        };
        let launch = launch.args(self.arguments);
        let plan = Plan {
            name: Kind::Redis.name().into(),
            folder,
            ports,
            launch,
            stop: Signal::TERM,
            probe: Arc::new(move || ready::redis(port)),
            limit: self.limit,
        };
        let address = Address::local("redis", None, [port], "");
        let (origin, version) = (programs.origin.clone(), programs.version.clone());
        let nodes = vec![Node::new(plan)?];
        Ok(Redis {
            broker: Broker::ours(Kind::Redis, origin, version, address, nodes, Routes::Any, self.limit),
            #[cfg(feature = "tls")]
            encrypted,
        })
    }
}

#[cfg(feature = "tls")]
impl Encrypted {
    fn launch(&self, launch: Launch, folder: &std::path::Path) -> Result<Launch, Error> {
        use crate::tls::{AUTHORITY_FILE, SERVER_FILE};

        self.certificates.write_server_files(folder)?;
        let path = |file: &str| folder.join(file).display().to_string();
        let (server, authority) = (path(SERVER_FILE), path(AUTHORITY_FILE));
        Ok(launch.args(["--tls-port", &self.port.to_string(), "--tls-auth-clients", "optional"]).args([
            "--tls-cert-file",
            &server,
            "--tls-key-file",
            &server,
            "--tls-ca-cert-file",
            &authority,
        ]))
    }
}

impl Deref for Redis {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}
