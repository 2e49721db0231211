//! [`Links`]: opens connections to whichever node answers, on the runtime on which the broker was connected.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::FutureExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::ExchangeDeclareOptions,
    runtime,
    tcp::{AMQPUriTcpExt as _, OwnedTLSConfig},
    types::FieldTable,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use messaging::{Error, ErrorKind};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::OnceCell, time::timeout};

use crate::{
    config::RabbitMqConfig,
    error::{reply_code, reply_text, unavailable, while_doing},
    tls,
    topology::TopicFacts,
};

/// Opens connections.
pub(crate) struct Links {
    pub(crate) config: RabbitMqConfig,
    /// The client leaves tasks behind on the runtime that connects: this one outlives whoever uses the connection.
    pub(crate) runtime: Handle,
    tls: OwnedTLSConfig,
    limits_deliveries: OnceCell<bool>,
    /// What was learnt of topics. Declaring what is there already is the quiet way to see that it is still so.
    pub(crate) known: Mutex<HashMap<String, TopicFacts>>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: Connection,
    /// What the server agreed to.
    pub(crate) heartbeat: Duration,
    /// How long a question may take.
    pub(crate) patience: Duration,
}

impl Links {
    pub(crate) fn new(config: RabbitMqConfig) -> Result<Arc<Self>, Error> {
        config.check()?;
        let tls = config.tls.as_ref().map_or(Ok(OwnedTLSConfig::default()), tls::client)?;
        Ok(Arc::new(Self {
            config,
            runtime: Handle::current(),
            tls,
            limits_deliveries: OnceCell::new(),
            known: Mutex::default(),
        }))
    }

    /// Opens a connection; `purpose` is how the broker's lists show it.
    pub(crate) async fn open(self: &Arc<Self>, purpose: &str) -> Result<Link, Error> {
        let (links, purpose) = (self.clone(), purpose.to_owned());
        let opening = self.runtime.spawn(async move { links.open_here(&purpose).await });
        opening.await.unwrap_or_else(|error| Err(unavailable("the runtime of the connection ended").with_source(error)))
    }

    async fn open_here(&self, purpose: &str) -> Result<Link, Error> {
        let patience = self.config.connect_timeout;
        let first = fastrand::usize(..self.config.hosts.len());
        let mut last = None;
        for index in 0..self.config.hosts.len() {
            let (host, port) = &self.config.hosts[(first + index) % self.config.hosts.len()];
            match timeout(patience, self.connect(host, *port, purpose)).await {
                Ok(Ok(connection)) => {
                    let heartbeat = Duration::from_secs(connection.configuration().heartbeat().into());
                    if heartbeat.is_zero() {
                        let message = "the server agreed to no heartbeat, without which a lost owner is not noticed";
                        return Err(Error::new(ErrorKind::Config, message));
                    }
                    return Ok(Link { connection, heartbeat, patience });
                }
                Ok(Err(error)) => last = Some(self.refused(&format!("{host}:{port}"), error)),
                Err(_) => {
                    let message = format!("{host}:{port} did not answer within {} ms", patience.as_millis());
                    last = Some(unavailable(message));
                }
            }
        }
        Err(last.unwrap_or_else(|| unavailable("there is no host")))
    }

    /// Why a node did not let us in, with the setting that is to blame.
    fn refused(&self, node: &str, error: lapin::Error) -> Error {
        let RabbitMqConfig { user, vhost, .. } = &self.config;
        let told = reply_text(&error).unwrap_or_default();
        let what = match reply_code(&error) {
            Some(403) => format!("{node} refuses the user {user:?} or the password: {told}"),
            Some(530) => format!("{node} refuses the virtual host {vhost:?} to the user {user:?}: {told}"),
            _ => format!("connecting to {node}"),
        };
        while_doing(&what, error)
    }

    async fn connect(&self, host: &str, port: u16, purpose: &str) -> lapin::Result<Connection> {
        let config = &self.config;
        let uri = AMQPUri {
            scheme: if config.tls.is_some() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo { username: config.user.clone(), password: config.password.clone() },
                host: host.to_owned(),
                port,
            },
            vhost: config.vhost.clone(),
            query: AMQPQueryString {
                heartbeat: Some(u16::try_from(config.heartbeat.as_secs()).unwrap_or(u16::MAX)),
                ..AMQPQueryString::default()
            },
        };
        let (tls, patience) = (self.tls.clone(), config.connect_timeout);
        let properties = ConnectionProperties::default().with_connection_name(purpose.into());
        let connect = async move |uri: AMQPUri, runtime| {
            // Without a deadline of its own the client's thread would wait for the system's.
            let connecting = uri.connect_with_config_async(tls.as_ref(), &runtime);
            match timeout(patience, connecting).await {
                Ok(connected) => Ok(connected?),
                Err(late) => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, late).into()),
            }
        };
        Connection::connector(uri, runtime::default_runtime()?, connect, properties).await
    }

    /// Whether the server drops what it has handed over too often, unless told not to: true from version 4 on.
    ///
    /// The client does not tell the server's version, so this asks for a type of exchange that came with version 4, in a
    /// way that declares nothing: a server that knows the type goes on to refuse the empty name.
    pub(crate) async fn limits_deliveries(self: &Arc<Self>) -> Result<bool, Error> {
        let ask = || async {
            let link = self.open("messaging: what server is this?").await?;
            let channel = link.channel().await?;
            let kind = ExchangeKind::Custom("x-local-random".to_owned());
            let (options, arguments) = (ExchangeDeclareOptions::default(), FieldTable::default());
            let asked = timeout(link.patience, channel.exchange_declare("".into(), kind, options, arguments)).await;
            let knows = match asked {
                Ok(Ok(())) => true,
                Ok(Err(error)) => match reply_code(&error) {
                    // Of the channel: refused for its name. Of the connection: no such type.
                    Some(403) => true,
                    Some(503) => false,
                    _ => return Err(while_doing("asking for the server's version", error)),
                },
                Err(_) => return Err(unavailable("the server did not answer when asked for its version")),
            };
            link.close().await;
            Ok(knows)
        };
        self.limits_deliveries.get_or_try_init(ask).await.copied()
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) async fn channel(&self) -> Result<Channel, Error> {
        self.answer("opening a channel", self.connection.create_channel()).await
    }

    /// Waits for the server's answer.
    pub(crate) async fn answer<T>(
        &self,
        what: &str,
        question: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, Error> {
        match timeout(self.patience, question).await {
            Ok(answer) => answer.map_err(|error| while_doing(what, error)),
            Err(_) => Err(unavailable(format!("{what}: no answer within {} ms", self.patience.as_millis()))),
        }
    }

    /// Closes the connection; whatever keeps it from that ends with the heartbeat.
    pub(crate) async fn close(self) {
        if self.connection.status().connected() {
            // Dropped in the end, which closes as well.
            let _ = timeout(self.patience.min(Duration::from_secs(2)), self.connection.close(200, "OK".into())).await;
        }
    }
}

/// Starts a request of which only the sending matters: the client queues its frames at the first poll, in the order of
/// these calls, and an error of the channel shows elsewhere.
pub(crate) fn send<T>(request: impl Future<Output = T>) {
    let _ = request.now_or_never();
}
