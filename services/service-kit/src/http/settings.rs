//! Where a process serves HTTP, and to whom: its settings, and the listeners made of them.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::access::ApiKey;
use super::app::{self, Api};
use super::operations::Operations;
use super::server;
use crate::BoxFuture;
use crate::process::StartError;
use crate::settings::{Environment, Setting, SettingError};

/// Where to serve.
pub const LISTEN_ADDR: Setting =
    Setting::new("LISTEN_ADDR", "where to serve HTTP, health and metrics; a consumer serves the latter two")
        .default("0.0.0.0:8000")
        .expected("an IP address and a port such as 0.0.0.0:8000");

/// Where to serve operators alone.
pub const ADMIN_LISTEN_ADDR: Setting = Setting::new(
    "ADMIN_LISTEN_ADDR",
    "where to serve metrics and the reasons of readiness, and to pause groups; nothing of it is on `LISTEN_ADDR` then",
)
.expected("an IP address and a port such as 127.0.0.1:9000");

/// What clients of the API have to know.
pub const API_KEY: Setting = Setting::new(
    "API_KEY",
    "what the API wants to see as `Authorization: Bearer …` or `X-API-Key`; without it everybody may use it",
)
.expected("at least 16 visible characters of ASCII")
.secret();

/// `LISTEN_ADDR`, `ADMIN_LISTEN_ADDR` and `API_KEY`.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Where to serve everybody.
    pub listen: SocketAddr,
    /// Where to serve operators, if not there too.
    pub admin: Option<SocketAddr>,
    /// What clients of the API have to know.
    pub key: Option<ApiKey>,
}

impl HttpSettings {
    /// Reads them.
    ///
    /// # Errors
    /// One is wrong; the error names it and never shows the key.
    pub fn from_environment(environment: &Environment) -> Result<Self, SettingError> {
        Ok(Self {
            listen: environment.parsed(LISTEN_ADDR)?,
            admin: environment.optional(ADMIN_LISTEN_ADDR)?,
            key: environment.optional(API_KEY)?,
        })
    }

    /// What they come down to, for `--check-config`.
    pub fn describe(&self) -> Vec<String> {
        let key = if self.key.is_some() { "with a key" } else { "without a key" };
        let admin = self.admin.map_or("on the same port".to_owned(), |address| format!("on {address}"));
        vec![format!("HTTP on {}, the API {key}, operations {admin}", self.listen)]
    }

    /// Takes the addresses.
    ///
    /// # Errors
    /// One is taken or not one of this machine; the error names the setting.
    pub fn bind(&self) -> BoxFuture<'_, Result<Listeners, StartError>> {
        Box::pin(async move {
            let public = server::bind(self.listen).await?;
            let admin = match self.admin {
                Some(address) => Some(server::bind_for(ADMIN_LISTEN_ADDR, address).await?),
                None => None,
            };
            Ok(Listeners { public, admin, key: self.key.clone() })
        })
    }
}

/// Where a process serves.
#[derive(Debug)]
pub struct Listeners {
    public: TcpListener,
    admin: Option<TcpListener>,
    key: Option<ApiKey>,
}

impl From<TcpListener> for Listeners {
    /// One for all, without a key.
    fn from(public: TcpListener) -> Self {
        Self { public, admin: None, key: None }
    }
}

impl Listeners {
    /// Where everybody is served, and where operators are, if not there too.
    ///
    /// # Errors
    /// The system does not say.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, Option<SocketAddr>)> {
        Ok((self.public.local_addr()?, self.admin.as_ref().map(TcpListener::local_addr).transpose()?))
    }

    /// Serves a process's API, if it has one, and its operations, until `stop` is cancelled and what has begun is done.
    pub fn serve(
        self,
        api: Option<Api<()>>,
        operations: Operations,
        stop: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        let Self { public, admin, key } = self;
        let Some(admin) = admin else {
            return server::serve(public, app::whole(api, operations, key), stop);
        };
        let operators = server::serve_admin(admin, app::admin(operations.clone()), stop.clone());
        let everybody = server::serve(public, app::public(api, operations, key), stop);
        Box::pin(async {
            tokio::join!(operators, everybody);
        })
    }
}
