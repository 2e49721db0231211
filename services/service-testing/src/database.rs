//! A database for one test.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use service_kit::database::DatabaseSettings;
use tempfile::TempDir;
use test_brokers::{Postgres, or_skip};

/// An empty database that goes away with this value, or with the test process.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    _folder: Option<TempDir>,
}

impl TestDatabase {
    /// An SQLite file.
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("test.db").display());
        Self { url, _folder: Some(folder) }
    }

    /// A PostgreSQL database that does not exist yet, on a server that the tests of this process share; `None` where
    /// there is no such server, unless it must be there.
    pub async fn postgres() -> Option<Self> {
        or_skip(Postgres::shared().await).map(Self::on)
    }

    /// A PostgreSQL database that does not exist yet, on this server.
    pub fn on(server: &Postgres) -> Self {
        Self::at(&server.url())
    }

    /// A PostgreSQL database that does not exist yet, on the server of this URL.
    pub fn at(server: &str) -> Self {
        let (base, _) = server.rsplit_once('/').unwrap();
        Self { url: format!("{base}/{}", unique_name()), _folder: None }
    }

    /// What `DATABASE_URL` would be.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The settings to open it with, and to create it if need be.
    pub fn settings(&self) -> DatabaseSettings {
        DatabaseSettings { url: self.url.parse().unwrap(), create: true }
    }
}

/// A name that no other test has, even where a server outlives its tests.
fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    format!("test_{now}_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Declares each of these tests once for every database. A test is an `async fn` that takes what the function `$start`
/// makes of a [`TestDatabase`].
#[macro_export]
macro_rules! on_each_database {
    ($start:path: $($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name($start($crate::TestDatabase::sqlite().await).await).await;
            })*
        }

        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                if let Some(database) = $crate::TestDatabase::postgres().await {
                    super::$name($start(database).await).await;
                }
            })*
        }
    };
}
