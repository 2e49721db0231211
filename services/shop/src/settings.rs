//! What the shop needs to know; everything has a default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use service_kit::database::{DatabaseSettings, DatabaseUrl};
use service_kit::telemetry::{LOG_FORMAT, RUST_LOG};
use service_kit::{Environment, Setting, SettingError};

pub(crate) const ORDERS_ADDR: Setting = Setting::new("SHOP_ORDERS_ADDR", "where to serve orders")
    .default("127.0.0.1:8001")
    .expected("an IP address and a port such as 127.0.0.1:8001");

pub(crate) const NOTIFICATIONS_ADDR: Setting = Setting::new("SHOP_NOTIFICATIONS_ADDR", "where to serve notifications")
    .default("127.0.0.1:8002")
    .expected("an IP address and a port such as 127.0.0.1:8002");

pub(crate) const DATA_DIR: Setting = Setting::new("SHOP_DATA_DIR", "the folder of the databases").default("data");

pub(crate) const SETTINGS: &[Setting] = &[ORDERS_ADDR, NOTIFICATIONS_ADDR, DATA_DIR, RUST_LOG, LOG_FORMAT];

#[derive(Debug)]
pub(crate) struct Settings {
    /// `SHOP_ORDERS_ADDR`
    pub(crate) orders: SocketAddr,
    /// `SHOP_NOTIFICATIONS_ADDR`
    pub(crate) notifications: SocketAddr,
    /// `SHOP_DATA_DIR`
    pub(crate) data: PathBuf,
}

impl Settings {
    pub(crate) fn from_environment(environment: &Environment) -> Result<Self, SettingError> {
        Ok(Self {
            orders: environment.parsed(ORDERS_ADDR)?,
            notifications: environment.parsed(NOTIFICATIONS_ADDR)?,
            data: environment.parsed(DATA_DIR)?,
        })
    }

    /// The database of one service, a file in the data folder.
    pub(crate) fn database(&self, service: &str) -> DatabaseSettings {
        DatabaseSettings {
            url: DatabaseUrl::sqlite_file(Path::new(&self.data).join(format!("{service}.db"))),
            create: true,
        }
    }
}
