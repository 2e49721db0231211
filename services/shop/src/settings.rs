//! What the shop needs to know; everything has a default.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use service_kit::database::{DatabaseSettings, DatabaseUrl};
use service_kit::{Environment, SettingError};

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
        let address = |name, port| {
            let default = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            environment.parsed(name, default, "an IP address and a port such as 127.0.0.1:8001")
        };
        Ok(Self {
            orders: address("SHOP_ORDERS_ADDR", 8001)?,
            notifications: address("SHOP_NOTIFICATIONS_ADDR", 8002)?,
            data: environment.text("SHOP_DATA_DIR")?.map_or_else(|| PathBuf::from("data"), PathBuf::from),
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
