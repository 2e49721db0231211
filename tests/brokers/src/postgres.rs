//! A PostgreSQL server of one's own, or the one that `TEST_POSTGRES_URL` gives.

use std::ops::Deref;
use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::OnceCell;

use crate::address::Address;
use crate::broker::Broker;
use crate::error::Error;
use crate::kind::Kind;
use crate::launch::{Launch, User};
use crate::node::{Node, Plan, blocking};
use crate::options::{START_LIMIT, given, node_folder};
use crate::ports;
use crate::programs::{self, Programs};
use crate::ready;
use crate::route::Routes;

/// A PostgreSQL server; everything common is in [`Broker`], to which it derefs. Its superuser is `postgres`, with any
/// password, its database `postgres`.
#[derive(Debug)]
pub struct Postgres(Broker);

/// What a PostgreSQL server is started with.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    settings: Vec<(String, String)>,
    limit: Duration,
}

/// A test's data has to outlive the server's death, not the machine's: nothing waits for a disk.
const DEFAULTS: [(&str, &str); 7] = [
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("max_connections", "200"),
    ("shared_buffers", "32MB"),
    ("log_destination", "stderr"),
];

impl Postgres {
    /// Options for a server of one's own.
    #[must_use]
    pub fn options() -> PostgresOptions {
        PostgresOptions { settings: Vec::new(), limit: START_LIMIT }
    }

    /// A server for this test alone, with default options.
    ///
    /// # Errors
    /// As [`PostgresOptions::start`].
    pub async fn start_new() -> Result<Self, Error> {
        Self::options().start().await
    }

    /// The server that all tests of this process share; do not harm it.
    ///
    /// # Errors
    /// As [`PostgresOptions::start`].
    pub async fn shared() -> Result<&'static Self, Error> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start_new).await
    }
}

impl PostgresOptions {
    /// Sets a server parameter, such as `max_connections`. Later ones win over earlier ones and over the defaults.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// How long a start may take.
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts the server and returns when it is ready, or takes the one that `TEST_POSTGRES_URL` gives.
    ///
    /// # Errors
    /// If there is none on this machine and none to be had, if it does not start, or if own settings are asked of a
    /// given one.
    pub async fn start(self) -> Result<Postgres, Error> {
        if let Some(broker) = given(Kind::Postgres, self.settings.is_empty()).await? {
            return Ok(Postgres(broker));
        }
        let broker = blocking(move || self.prepare()).await?;
        broker.start_nodes().await?;
        Ok(Postgres(broker))
    }

    fn prepare(self) -> Result<Broker, Error> {
        let programs = programs::find(Kind::Postgres)?;
        let folder = node_folder(Kind::Postgres)?;
        let ports = ports::reserve(1)?;
        let port = ports[0].number();
        let user = server_user();
        let launch = |program: &str| {
            let launch = Launch::new(&programs.place, programs.program(program), folder.path());
            launch.envs(&programs.environment).user(user).env("LC_ALL", "C")
        };
        if user != User::current() {
            let failed = Error::io(format!("giving {} to user {}", folder.path().display(), user.uid));
            chown(folder.path(), Some(user.uid), Some(user.gid)).map_err(failed)?;
            reachable(&programs)?;
        }
        let data = folder.path().join("data");
        let initialise = launch("initdb")
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--pgdata"])
            .arg(&data);
        let mut server = launch("postgres").arg("-D").arg(&data).args(["-p", &port.to_string()]);
        let own = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in DEFAULTS.into_iter().chain(own) {
            server = server.args(["-c".to_owned(), format!("{name}={value}")]);
        }
        let plan = Plan {
            name: Kind::Postgres.name().into(),
            folder,
            ports,
            launch: server,
            // A "fast shutdown": it does not wait for clients to leave.
            stop: Signal::INT,
            probe: Arc::new(move || ready::postgres(port)),
            limit: self.limit,
        };
        let address = Address::local("postgres", Some("postgres:postgres"), [port], "/postgres");
        let node = Node::new(plan)?;
        node.prepare_now(&initialise)?;
        let (origin, version) = (programs.origin.clone(), programs.version.clone());
        Ok(Broker::ours(Kind::Postgres, origin, version, address, vec![node], Routes::Any, self.limit))
    }
}

/// PostgreSQL refuses to run as root: then it runs as its own user where there is one, else as nobody.
fn server_user() -> User {
    let current = User::current();
    if current.uid != 0 {
        return current;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |wanted: &str| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            (name == wanted).then_some(User { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
        })
    };
    find("postgres").or_else(|| find("nobody")).unwrap_or(User { uid: 65534, gid: 65534 })
}

/// Another user needs to pass through every folder above the programs; a cache below a closed home is out of its reach.
fn reachable(programs: &Programs) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let closed = |folder: &&Path| folder.metadata().is_ok_and(|data| data.permissions().mode() & 0o001 == 0);
    match programs.folder.ancestors().find(closed) {
        None => Ok(()),
        Some(folder) => {
            let setting = format!("{} is closed to PostgreSQL's user, as root it may not run", folder.display());
            Err(Error::Setting { setting, reason: "set TEST_BROKERS_CACHE to an open folder" })
        }
    }
}

impl Deref for Postgres {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.0
    }
}
