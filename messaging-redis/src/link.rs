//! [`Connector`] and [`Link`]: one connection to the server, opened, checked and with the scripts loaded.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use messaging::{Error, ErrorKind};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo, Pipeline,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError, ServerErrorKind, Value,
    aio::MultiplexedConnection, io::tcp::TcpSettings,
};

use crate::{
    config::{RedisConfig, wrong},
    scripts,
    server::Server,
};

/// Opens connections.
pub(crate) struct Connector {
    client: Client,
    /// For connections that tell when they end: the client does that with the newer protocol only.
    watched: Client,
    pub(crate) config: Arc<RedisConfig>,
}

/// An open connection to a server that has what is needed.
pub(crate) struct Link {
    pub(crate) conn: MultiplexedConnection,
    pub(crate) client: ClientId,
}

/// Names a connection, so that another one can end it: the server's run and the client's number in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientId {
    /// Numbers begin anew with each run of a server: a number of an earlier one may be anybody's.
    pub(crate) run: Arc<str>,
    pub(crate) number: u64,
}

impl Connector {
    pub(crate) fn new(config: Arc<RedisConfig>) -> Result<Self, Error> {
        let mut redis = RedisConnectionInfo::default().set_db(config.database);
        if let Some(user) = &config.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &config.password {
            redis = redis.set_password(password);
        }
        let info = address(&config)?
            .into_connection_info()
            .map_err(|error| wrong("the address is not valid").with_source(error))?
            .set_redis_settings(redis)
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let watched = open_client(info.clone().set_redis_settings(redis), &config)?;
        let client = open_client(info, &config)?;
        Ok(Self { client, watched, config })
    }

    /// Connects, checks the server and loads the scripts; an answer may take `response_timeout` then.
    pub(crate) async fn connect(&self, response_timeout: Duration) -> Result<Link, Error> {
        self.open(&self.client, AsyncConnectionConfig::new(), response_timeout).await
    }

    /// As [`connect`](Self::connect), with a mark that is set once the connection has ended, if that is noticed.
    pub(crate) async fn connect_watched(&self, response_timeout: Duration) -> Result<(Link, Arc<AtomicBool>), Error> {
        let ended = Arc::new(AtomicBool::new(false));
        let mark = ended.clone();
        let note = move |info: PushInfo| {
            if info.kind == PushKind::Disconnection {
                mark.store(true, Ordering::Release);
            }
            Ok::<(), ()>(())
        };
        let config = AsyncConnectionConfig::new().set_push_sender(note);
        Ok((self.open(&self.watched, config, response_timeout).await?, ended))
    }

    async fn open(
        &self,
        client: &Client,
        config: AsyncConnectionConfig,
        response_timeout: Duration,
    ) -> Result<Link, Error> {
        let connecting = async {
            let config = config
                .set_connection_timeout(Some(self.config.connect_timeout))
                .set_response_timeout(Some(self.config.connect_timeout));
            let connected = client.get_multiplexed_async_connection_with_config(&config).await;
            let mut conn = connected.map_err(|error| failed("connecting", error))?;
            let mut pipe = Pipeline::new();
            pipe.cmd("CLIENT").arg("ID").cmd("INFO");
            let (number, info): (u64, String) =
                pipe.query_async(&mut conn).await.map_err(|error| failed("asking the server for its state", error))?;
            let server = Server::parse(&info);
            server.check(self.config.durability)?;
            scripts::load(&mut conn).await.map_err(|error| failed("loading the scripts", error))?;
            conn.set_response_timeout(response_timeout);
            Ok(Link { conn, client: ClientId { run: server.run.into(), number } })
        };
        match tokio::time::timeout(self.config.connect_timeout, connecting).await {
            Ok(result) => result,
            Err(_) => {
                let (host, port) = (&self.config.host, self.config.port);
                let limit = self.config.connect_timeout.as_millis();
                Err(Error::new(ErrorKind::Unavailable, format!("redis at {host}:{port} did not answer in {limit} ms")))
            }
        }
    }
}

fn address(config: &RedisConfig) -> Result<ConnectionAddr, Error> {
    let (host, port) = (config.host.clone(), config.port);
    if config.tls.is_none() {
        return Ok(ConnectionAddr::Tcp(host, port));
    }
    if cfg!(feature = "tls") {
        return Ok(ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None });
    }
    Err(wrong("rediss:// needs the cargo feature `tls` of messaging-redis, which this program was built without"))
}

#[cfg(feature = "tls")]
fn open_client(info: ConnectionInfo, config: &RedisConfig) -> Result<Client, Error> {
    crate::tls::open_client(info, config.tls.as_ref())
}

#[cfg(not(feature = "tls"))]
fn open_client(info: ConnectionInfo, _config: &RedisConfig) -> Result<Client, Error> {
    Client::open(info).map_err(|error| wrong("the address is not valid").with_source(error))
}

/// A failure of the client or the server as an error of ours.
pub(crate) fn failed(what: &str, error: RedisError) -> Error {
    let kind = match error.kind() {
        redis::ErrorKind::AuthenticationFailed | redis::ErrorKind::Server(ServerErrorKind::NoPerm) => ErrorKind::Config,
        redis::ErrorKind::Io if error.is_timeout() => ErrorKind::Timeout,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("{what} failed: {error}"))
}

/// Whether the connection is of no use after this error. An answer that did not come in time may still come and be
/// taken for another's meaning of the state, so a time-out counts.
pub(crate) fn is_broken(error: &RedisError) -> bool {
    use redis::ErrorKind as Kind;
    match error.kind() {
        Kind::Io | Kind::Parse | Kind::AuthenticationFailed | Kind::Client => true,
        // A demoted server, one without our scripts, or one that is starting: another connection finds what is right.
        Kind::Server(
            ServerErrorKind::ReadOnly
            | ServerErrorKind::NoScript
            | ServerErrorKind::MasterDown
            | ServerErrorKind::BusyLoading,
        ) => true,
        _ => error.is_unrecoverable_error(),
    }
}

/// Pauses between attempts to connect: doubling up to two seconds, each varied by half of itself.
#[derive(Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let millis = 50_u64 << self.failures.min(5);
        self.failures += 1;
        Duration::from_millis(fastrand::u64(millis / 2..=millis * 3 / 2).min(2_000))
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A connection for what is asked now and then, opened when it is needed.
pub(crate) struct SharedLink {
    connector: Arc<Connector>,
    current: tokio::sync::Mutex<Option<MultiplexedConnection>>,
}

impl SharedLink {
    pub(crate) fn new(connector: Arc<Connector>) -> Self {
        Self { connector, current: tokio::sync::Mutex::default() }
    }

    pub(crate) fn config(&self) -> &Arc<RedisConfig> {
        &self.connector.config
    }

    async fn get(&self) -> Result<MultiplexedConnection, Error> {
        let mut current = self.current.lock().await;
        if let Some(conn) = &*current {
            return Ok(conn.clone());
        }
        let conn = self.connector.connect(self.connector.config.command_timeout).await?.conn;
        *current = Some(conn.clone());
        Ok(conn)
    }

    /// Connects, if it is not connected.
    pub(crate) async fn open(&self) -> Result<(), Error> {
        self.get().await.map(drop)
    }

    pub(crate) async fn close(&self) {
        *self.current.lock().await = None;
    }

    /// Asks something that may be asked twice: once more if the connection turns out to be broken.
    pub(crate) async fn query<T: FromRedisValue>(&self, what: &str, cmd: Cmd) -> Result<T, Error> {
        let mut pipe = Pipeline::with_capacity(1);
        pipe.add_command(cmd);
        let answer = self.pipeline(what, &pipe).await?.pop().unwrap_or_default();
        if let Value::ServerError(error) = answer {
            return Err(failed(what, error.into()));
        }
        T::from_redis_value(answer).map_err(|error| unexpected(what, error))
    }

    /// Asks several things at once, which may be asked twice; an error of one is in its place.
    pub(crate) async fn pipeline(&self, what: &str, pipe: &Pipeline) -> Result<Vec<Value>, Error> {
        for last in [false, true] {
            let mut conn = self.get().await?;
            match conn.send_packed_commands(pipe, 0, pipe.len()).await {
                Ok(answers) if !last && answers.iter().any(is_elsewhere) => *self.current.lock().await = None,
                Ok(answers) => return Ok(answers),
                Err(error) => {
                    *self.current.lock().await = None;
                    if last {
                        return Err(failed(what, error));
                    }
                }
            }
        }
        Err(Error::new(ErrorKind::Unavailable, format!("{what} failed")))
    }
}

/// Whether an answer says that another connection would do better: see [`is_broken`].
fn is_elsewhere(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if is_broken(&error.clone().into()))
}

/// An answer of another shape than the one that was asked for.
pub(crate) fn unexpected(what: &str, error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, format!("{what}: the server's answer is not understood: {error}"))
}
