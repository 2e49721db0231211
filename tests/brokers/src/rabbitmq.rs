//! A RabbitMQ node of one's own, or the one that `TEST_RABBITMQ_URL` gives.

use std::fmt::Write as _;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::OnceCell;

use crate::address::Address;
use crate::broker::Broker;
use crate::command::run;
use crate::error::Error;
use crate::kind::Kind;
use crate::launch::Launch;
use crate::node::{Node, Plan, Probe, blocking};
use crate::options::{START_LIMIT, given, node_folder};
use crate::ports;
use crate::programs;
use crate::ready;
use crate::route::Routes;
#[cfg(feature = "tls")]
use crate::tls::Certificates;

/// A RabbitMQ node; everything common is in [`Broker`], to which it derefs. Its user is `guest`, its host `/`.
#[derive(Debug)]
pub struct RabbitMq {
    broker: Broker,
    /// `rabbitmqctl`, ready for its arguments; nothing if the node is not ours.
    control: Option<Launch>,
    #[cfg(feature = "tls")]
    encrypted: Option<Encrypted>,
}

/// Its second door.
#[cfg(feature = "tls")]
#[derive(Debug)]
struct Encrypted {
    port: u16,
    certificates: Certificates,
}

/// What a RabbitMQ node is started with.
#[derive(Clone, Debug)]
pub struct RabbitMqOptions {
    lines: Vec<String>,
    plugins: Vec<String>,
    limit: Duration,
    #[cfg(feature = "tls")]
    tls: bool,
}

impl RabbitMq {
    /// Options for a node of one's own.
    #[must_use]
    pub fn options() -> RabbitMqOptions {
        RabbitMqOptions {
            lines: Vec::new(),
            plugins: Vec::new(),
            limit: START_LIMIT,
            #[cfg(feature = "tls")]
            tls: false,
        }
    }

    /// The port and the certificates for TLS; nothing if that was not asked for. It asks its clients for a certificate.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(&self) -> Option<(u16, &Certificates)> {
        self.encrypted.as_ref().map(|encrypted| (encrypted.port, &encrypted.certificates))
    }

    /// A node for this test alone, with default options.
    ///
    /// # Errors
    /// As [`RabbitMqOptions::start`].
    pub async fn start_new() -> Result<Self, Error> {
        Self::options().start().await
    }

    /// The node that all tests of this process share; do not harm it.
    ///
    /// # Errors
    /// As [`RabbitMqOptions::start`].
    pub async fn shared() -> Result<&'static Self, Error> {
        static SHARED: OnceCell<RabbitMq> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start_new).await
    }

    /// Runs `rabbitmqctl` on this node and returns what it printed: `set_vm_memory_high_watermark 0.000001` raises the
    /// memory alarm, `list_queues name messages` looks inside.
    ///
    /// # Errors
    /// If the node was given, or the command fails.
    pub async fn control<T: Into<String>>(&self, arguments: impl IntoIterator<Item = T>) -> Result<String, Error> {
        let nodes = self.broker.nodes()?;
        let Some(control) = self.control.clone() else { return Ok(String::new()) };
        let arguments: Vec<String> = arguments.into_iter().map(Into::into).collect();
        let name = format!("{}-control-{:08x}", nodes[0].name(), fastrand::u32(..));
        blocking(move || run(control.args(arguments).command(&name), Duration::from_secs(60))).await
    }
}

impl RabbitMqOptions {
    /// Adds a line of `rabbitmq.conf`, such as `vm_memory_high_watermark.absolute = 100MB`.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Enables a plugin, such as `rabbitmq_management`.
    #[must_use]
    pub fn plugin(mut self, name: impl Into<String>) -> Self {
        self.plugins.push(name.into());
        self
    }

    /// Listens for TLS too, on a port of its own, with certificates made for this node; clients must show theirs.
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

    /// Starts the node and returns when it is ready, or takes the one that `TEST_RABBITMQ_URL` gives.
    ///
    /// # Errors
    /// If there is none on this machine and none to be had, if it does not start, or if own settings are asked of a
    /// given one.
    pub async fn start(self) -> Result<RabbitMq, Error> {
        if let Some(broker) = given(Kind::RabbitMq, self.is_as_it_comes()).await? {
            return Ok(RabbitMq {
                broker,
                control: None,
                #[cfg(feature = "tls")]
                encrypted: None,
            });
        }
        let rabbitmq = blocking(move || self.prepare()).await?;
        rabbitmq.broker.start_nodes().await?;
        Ok(rabbitmq)
    }

    fn is_as_it_comes(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls {
            return false;
        }
        self.lines.is_empty() && self.plugins.is_empty()
    }

    #[cfg_attr(not(feature = "tls"), expect(unused_mut, reason = "TLS adds lines"))]
    fn prepare(mut self) -> Result<RabbitMq, Error> {
        let programs = programs::find(Kind::RabbitMq)?;
        let folder = node_folder(Kind::RabbitMq)?;
        let ports = ports::reserve(4)?;
        #[cfg(feature = "tls")]
        let encrypted = match self.tls {
            false => None,
            true => {
                let encrypted = Encrypted { port: ports[3].number(), certificates: Certificates::generate()? };
                self.lines.extend(encrypted.lines(folder.path())?);
                Some(encrypted)
            }
        };
        let [port, distribution, mapper] = [0, 1, 2].map(|index: usize| ports[index].number());
        self.write_configuration(folder.path(), port)?;

        let server = Launch::new(&programs.place, "sh", folder.path()).envs(&programs.environment);
        let server = surroundings(server, folder.path(), distribution, mapper)
            // The port mapper is a child like the node itself: left to Erlang, it would become a daemon.
            .args(["-c", "epmd -port \"$ERL_EPMD_PORT\" -address 127.0.0.1 & exec \"$0\""])
            .arg(programs.program("rabbitmq-server"));
        let control = Launch::new(&programs.place, programs.program("rabbitmqctl"), folder.path());
        let control = surroundings(control.envs(&programs.environment), folder.path(), distribution, mapper);

        let probe: Probe = Arc::new(move || ready::rabbitmq(port));
        #[cfg(feature = "tls")]
        let probe: Probe = match &encrypted {
            None => probe,
            Some(Encrypted { port: second, .. }) => {
                let second = *second;
                Arc::new(move || ready::open(second).and_then(|_| probe()))
            }
        };
        let plan = Plan {
            name: Kind::RabbitMq.name().into(),
            folder,
            ports,
            launch: server,
            stop: Signal::TERM,
            probe,
            limit: self.limit,
        };
        let address = Address::local("amqp", Some("guest:guest"), [port], "/%2f");
        let (origin, version) = (programs.origin.clone(), programs.version.clone());
        let nodes = vec![Node::new(plan)?];
        let broker = Broker::ours(Kind::RabbitMq, origin, version, address, nodes, Routes::Any, self.limit);
        Ok(RabbitMq {
            broker,
            control: Some(control),
            #[cfg(feature = "tls")]
            encrypted,
        })
    }

    fn write_configuration(&self, folder: &Path, port: u16) -> Result<(), Error> {
        let mut configuration = format!("listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = true\nlog.file = false\n");
        for line in &self.lines {
            // Writing to a string cannot fail.
            let _ = writeln!(configuration, "{line}");
        }
        let plugins = format!("[{}].\n", self.plugins.join(","));
        for (name, text) in [("rabbitmq.conf", configuration), ("enabled_plugins", plugins)] {
            std::fs::write(folder.join(name), text).map_err(Error::io(format!("writing {name}")))?;
        }
        Ok(())
    }
}

#[cfg(feature = "tls")]
impl Encrypted {
    fn lines(&self, folder: &Path) -> Result<[String; 6], Error> {
        use crate::tls::{AUTHORITY_FILE, SERVER_FILE};

        self.certificates.write_server_files(folder)?;
        let path = |file: &str| folder.join(file).display().to_string();
        Ok([
            format!("listeners.ssl.1 = 127.0.0.1:{}", self.port),
            format!("ssl_options.cacertfile = {}", path(AUTHORITY_FILE)),
            format!("ssl_options.certfile = {}", path(SERVER_FILE)),
            format!("ssl_options.keyfile = {}", path(SERVER_FILE)),
            "ssl_options.verify = verify_peer".into(),
            "ssl_options.fail_if_no_peer_cert = true".into(),
        ])
    }
}

/// What keeps a node apart from all others: every folder, port and file that would have a default.
fn surroundings(launch: Launch, folder: &Path, distribution: u16, mapper: u16) -> Launch {
    let files = [
        ("HOME", "."),
        ("RABBITMQ_MNESIA_BASE", "data"),
        ("RABBITMQ_LOG_BASE", "log"),
        ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
        ("RABBITMQ_CONF_ENV_FILE", "rabbitmq-env.conf"),
        ("RABBITMQ_GENERATED_CONFIG_DIR", "generated"),
        ("RABBITMQ_SCHEMA_DIR", "schema"),
        ("RABBITMQ_FEATURE_FLAGS_FILE", "feature_flags"),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
        ("RABBITMQ_PID_FILE", "pid"),
    ];
    let launch = files.into_iter().fold(launch, |launch, (name, file)| launch.env(name, folder.join(file)));
    launch
        .env("RABBITMQ_NODENAME", format!("broker-{distribution}@localhost"))
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env("RABBITMQ_CTL_DIST_PORT_MIN", "0")
        .env("RABBITMQ_CTL_DIST_PORT_MAX", "0")
        .env("ERL_EPMD_PORT", mapper.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        // Two schedulers do for a test, and Erlang must not listen on other interfaces than loopback.
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "+S 2:2 -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
        )
}

impl Deref for RabbitMq {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}
