//! Reading `DATABASE_URL`, in sqlx's spelling and in SQLAlchemy's.

use std::fmt;
use std::str::FromStr;

/// Where a database is and how to connect to it. Debug output shows no password.
#[derive(Clone)]
#[non_exhaustive]
pub enum DatabaseUrl {
    /// A file, or `sqlite::memory:`.
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::sqlite::SqliteConnectOptions),
    /// A database on a server.
    #[cfg(feature = "postgres")]
    Postgres(sqlx::postgres::PgConnectOptions),
}

#[cfg(feature = "sqlite")]
impl DatabaseUrl {
    /// An SQLite file, created if need be.
    pub fn sqlite_file(path: impl AsRef<std::path::Path>) -> Self {
        Self::Sqlite(sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true))
    }
}

/// Why a text is not a [`DatabaseUrl`]. Never repeats the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// No `scheme:` in front.
    #[error("not a URL (examples: sqlite:orders.db, postgres://user:password@host:5432/orders)")]
    NotAUrl,
    /// A database this program does not speak to.
    #[error("scheme `{scheme}` is not supported; supported: {supported}")]
    UnknownScheme {
        /// The scheme that was asked for.
        scheme: String,
        /// Those compiled in.
        supported: &'static str,
    },
    /// A query parameter the driver would ignore.
    #[error("unknown parameter `{name}`{hint}")]
    UnknownParameter {
        /// The parameter's name.
        name: String,
        /// What to write instead, if that is known.
        hint: &'static str,
    },
    /// The rest of the URL does not parse.
    #[error("malformed {0} URL")]
    Malformed(&'static str),
}

#[cfg(all(feature = "sqlite", feature = "postgres"))]
const SUPPORTED: &str = "sqlite, postgres";
#[cfg(all(feature = "sqlite", not(feature = "postgres")))]
const SUPPORTED: &str = "sqlite (this program is built without postgres)";
#[cfg(all(feature = "postgres", not(feature = "sqlite")))]
const SUPPORTED: &str = "postgres (this program is built without sqlite)";
#[cfg(not(any(feature = "postgres", feature = "sqlite")))]
compile_error!("enable at least one of the features `sqlite` and `postgres`");

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(options) => write!(f, "sqlite:{}", options.get_filename().display()),
            #[cfg(feature = "postgres")]
            Self::Postgres(options) => write!(
                f,
                "postgres://{}:{}/{}",
                options.get_host(),
                options.get_port(),
                options.get_database().unwrap_or_default()
            ),
        }
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once(':').ok_or(DatabaseUrlError::NotAUrl)?;
        // SQLAlchemy names its driver in the scheme, as in `postgresql+asyncpg`.
        #[cfg_attr(not(feature = "sqlite"), expect(unused_variables, reason = "only SQLite's paths depend on it"))]
        let (dialect, driver) = match scheme.split_once('+') {
            Some((dialect, driver)) => (dialect, Some(driver)),
            None => (scheme, None),
        };
        match dialect {
            #[cfg(feature = "sqlite")]
            "sqlite" => sqlite(rest, driver.is_some()),
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => postgres(rest),
            _ if scheme.is_empty() || scheme.contains(['/', '@']) => Err(DatabaseUrlError::NotAUrl),
            _ => Err(DatabaseUrlError::UnknownScheme { scheme: scheme.to_owned(), supported: SUPPORTED }),
        }
    }
}

#[cfg(feature = "sqlite")]
fn sqlite(rest: &str, sqlalchemy: bool) -> Result<DatabaseUrl, DatabaseUrlError> {
    // SQLAlchemy counts slashes its own way: three before a relative path, four before an absolute one.
    let rest = match rest.strip_prefix("///") {
        Some(path) if sqlalchemy => format!("//{path}"),
        _ => rest.to_owned(),
    };
    let path = rest.split('?').next().unwrap_or_default().trim_start_matches('/');
    if path.is_empty() {
        return Err(DatabaseUrlError::Malformed("sqlite"));
    }
    let options = format!("sqlite:{rest}")
        .parse::<sqlx::sqlite::SqliteConnectOptions>()
        .map_err(|_| DatabaseUrlError::Malformed("sqlite"))?;
    Ok(DatabaseUrl::Sqlite(if rest.contains("mode=") { options } else { options.create_if_missing(true) }))
}

#[cfg(feature = "postgres")]
fn postgres(rest: &str) -> Result<DatabaseUrl, DatabaseUrlError> {
    let text = format!("postgres:{rest}");
    let parsed = url::Url::parse(&text).map_err(|_| DatabaseUrlError::Malformed("postgres"))?;
    // The driver warns about parameters that it does not know and goes on, which would drop a
    // demand for TLS unnoticed and write a mistyped password to the log.
    for (name, _) in parsed.query_pairs() {
        if !is_known_parameter(&name) {
            return Err(DatabaseUrlError::UnknownParameter {
                hint: if name == "ssl" { " (write `sslmode`)" } else { "" },
                name: name.into_owned(),
            });
        }
    }
    let options =
        text.parse::<sqlx::postgres::PgConnectOptions>().map_err(|_| DatabaseUrlError::Malformed("postgres"))?;
    Ok(DatabaseUrl::Postgres(options))
}

#[cfg(feature = "postgres")]
fn is_known_parameter(name: &str) -> bool {
    const KNOWN: [&str; 19] = [
        "sslmode",
        "ssl-mode",
        "sslrootcert",
        "ssl-root-cert",
        "ssl-ca",
        "sslcert",
        "ssl-cert",
        "sslkey",
        "ssl-key",
        "statement-cache-capacity",
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "password",
        "application_name",
        "options",
        "options[]",
    ];
    KNOWN.contains(&name) || (name.starts_with("options[") && name.ends_with(']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        format!("{:?}", text.parse::<DatabaseUrl>().unwrap())
    }

    fn refused(text: &str) -> String {
        text.parse::<DatabaseUrl>().unwrap_err().to_string()
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn sqlite_paths_in_both_spellings() {
        assert_eq!(shown("sqlite:orders.db"), "sqlite:orders.db");
        assert_eq!(shown("sqlite://data/orders.db"), "sqlite:data/orders.db");
        assert_eq!(shown("sqlite:///var/orders.db"), "sqlite:/var/orders.db");
        assert_eq!(shown("sqlite+aiosqlite:///./orders.db"), "sqlite:./orders.db");
        assert_eq!(shown("sqlite+aiosqlite:////var/orders.db"), "sqlite:/var/orders.db");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn postgres_urls_of_other_tools_are_accepted() {
        for scheme in ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg"] {
            let text = format!("{scheme}://user:hunter2@db:5433/orders?sslmode=prefer");
            assert_eq!(shown(&text), "postgres://db:5433/orders");
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn unknown_parameters_are_refused_by_name() {
        assert_eq!(
            refused("postgresql+asyncpg://u:p@db/orders?ssl=require"),
            "unknown parameter `ssl` (write `sslmode`)"
        );
        assert_eq!(refused("postgres://u@db/orders?passwrod=hunter2"), "unknown parameter `passwrod`");
    }

    #[test]
    fn what_is_no_database_is_refused_without_its_text() {
        assert!(refused("mysql://root:hunter2@db/orders").starts_with("scheme `mysql` is not supported"));
        for text in ["orders", "", ":", "user:hunter2@db", "/a:b"] {
            let reason = refused(text);
            assert!(!reason.contains("hunter2"), "{reason}");
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_malformed_url_does_not_show_its_password() {
        let reason = refused("postgres://user:hunter2@db:notaport/orders");
        assert_eq!(reason, "malformed postgres URL");
    }
}
