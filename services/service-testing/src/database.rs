//! A database for one test.

use service_kit::database::DatabaseSettings;
use tempfile::TempDir;

/// An empty database that goes away with this value.
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

    /// What `DATABASE_URL` would be.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The settings to open it with.
    pub fn settings(&self) -> DatabaseSettings {
        DatabaseSettings { url: self.url.parse().unwrap(), create: true }
    }
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
    };
}
