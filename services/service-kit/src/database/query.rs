//! One statement, one text, two drivers: the only place that knows both.

use std::str::FromStr;

use jiff::Timestamp;
use messaging_outbox::{Connection, Tx};
use sqlx::Row;

use crate::BoxFuture;

use super::{DatabaseError, Pools, STATEMENT_DEADLINE};

/// A value bound to a placeholder.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Argument {
    /// A 64-bit integer, or NULL.
    Integer(Option<i64>),
    /// Text, or NULL.
    Text(Option<String>),
}

impl From<i64> for Argument {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<Option<i64>> for Argument {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for Argument {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<Option<&str>> for Argument {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(str::to_owned))
    }
}

/// A transaction can only be of a database that the service opened, so that this is never said.
const WITHOUT_DRIVER: &str = "the transaction is on a database that this program is built without";

/// A row of a result, whichever driver it came from.
#[derive(Clone, Copy)]
pub struct Record<'r>(Driver<'r>);

#[derive(Clone, Copy)]
enum Driver<'r> {
    #[cfg(feature = "sqlite")]
    Sqlite(&'r sqlx::sqlite::SqliteRow),
    #[cfg(feature = "postgres")]
    Postgres(&'r sqlx::postgres::PgRow),
}

impl std::fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Record(..)")
    }
}

impl Record<'_> {
    /// The value of a column.
    ///
    /// # Errors
    /// There is no such column, or it holds another type.
    pub fn get<T: Column>(&self, column: &str) -> Result<T, DatabaseError> {
        T::read(self, column)
    }

    /// The value of a text column, parsed.
    ///
    /// # Errors
    /// There is no such column, or its text does not parse.
    pub fn parsed<T>(&self, column: &str) -> Result<T, DatabaseError>
    where
        T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        self.get::<String>(column)?.parse().map_err(|error| undecodable(column, error))
    }

    /// The value of a column of microseconds since 1970.
    ///
    /// # Errors
    /// There is no such column, or its number is no time.
    pub fn timestamp(&self, column: &str) -> Result<Timestamp, DatabaseError> {
        Timestamp::from_microsecond(self.get(column)?).map_err(|error| undecodable(column, error))
    }

    /// The value of a column of microseconds since 1970, or NULL.
    ///
    /// # Errors
    /// As [`timestamp`](Self::timestamp).
    pub fn optional_timestamp(&self, column: &str) -> Result<Option<Timestamp>, DatabaseError> {
        match self.get::<Option<i64>>(column)? {
            None => Ok(None),
            Some(_) => self.timestamp(column).map(Some),
        }
    }
}

fn undecodable(column: &str, error: impl std::error::Error + Send + Sync + 'static) -> DatabaseError {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(error) }.into()
}

/// A type that a column can be read as: `i64`, `String`, and `Option` of them.
pub trait Column: Sized {
    #[doc(hidden)]
    fn read(record: &Record<'_>, column: &str) -> Result<Self, DatabaseError>;
}

macro_rules! column {
    ($($type:ty),*) => {$(
        impl Column for $type {
            fn read(record: &Record<'_>, column: &str) -> Result<Self, DatabaseError> {
                Ok(match record.0 {
                    #[cfg(feature = "sqlite")]
                    Driver::Sqlite(row) => row.try_get(column)?,
                    #[cfg(feature = "postgres")]
                    Driver::Postgres(row) => row.try_get(column)?,
                })
            }
        }
    )*};
}
column!(i64, Option<i64>, String, Option<String>);

/// A type that is read from one row.
pub trait FromRecord: Sized {
    /// Reads the columns.
    ///
    /// # Errors
    /// A column is missing or does not hold what this type allows.
    fn from_record(record: &Record<'_>) -> Result<Self, DatabaseError>;
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Intent {
    Read,
    Write,
}

/// Where a statement runs.
enum Target<'d> {
    /// On a connection of its own.
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "only SQLite has a pool for each intent"))]
    Pools(&'d Pools, Intent),
    /// In a transaction.
    Transaction(Connection<'d>),
}

/// A statement and its arguments, ready to run.
#[must_use = "a query does nothing until it is run"]
pub struct Query<'d> {
    target: Target<'d>,
    sql: &'static str,
    arguments: Vec<Argument>,
}

impl std::fmt::Debug for Query<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Query").field("sql", &self.sql).finish_non_exhaustive()
    }
}

/// Binds the arguments to the statement and runs it on `$executor`.
macro_rules! fetch {
    ($sql:expr, $arguments:expr, $executor:expr) => {{
        let mut query = sqlx::query($sql);
        for argument in $arguments {
            query = match argument {
                Argument::Integer(value) => query.bind(value),
                Argument::Text(value) => query.bind(value),
            };
        }
        query.fetch_all($executor).await?
    }};
}

/// All rows of a result.
enum Rows {
    #[cfg(feature = "sqlite")]
    Sqlite(Vec<sqlx::sqlite::SqliteRow>),
    #[cfg(feature = "postgres")]
    Postgres(Vec<sqlx::postgres::PgRow>),
}

impl Rows {
    fn read<T: FromRecord>(&self) -> Result<Vec<T>, DatabaseError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(rows) => rows.iter().map(|row| T::from_record(&Record(Driver::Sqlite(row)))).collect(),
            #[cfg(feature = "postgres")]
            Self::Postgres(rows) => rows.iter().map(|row| T::from_record(&Record(Driver::Postgres(row)))).collect(),
        }
    }
}

impl<'d> Query<'d> {
    pub(super) fn on(pools: &'d Pools, intent: Intent, sql: &'static str) -> Self {
        Self { target: Target::Pools(pools, intent), sql, arguments: Vec::new() }
    }

    pub(super) fn within(tx: &'d mut Tx, sql: &'static str) -> Self {
        Self { target: Target::Transaction(tx.connection()), sql, arguments: Vec::new() }
    }

    /// Gives the next placeholder its value.
    pub fn bind(mut self, argument: impl Into<Argument>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// All rows.
    ///
    /// # Errors
    /// The statement failed, or took longer than its deadline; a write may have happened then.
    pub async fn all<T: FromRecord>(self) -> Result<Vec<T>, DatabaseError> {
        self.rows().await?.read()
    }

    /// The first row, if there is one.
    ///
    /// # Errors
    /// As [`all`](Self::all).
    pub async fn optional<T: FromRecord>(self) -> Result<Option<T>, DatabaseError> {
        Ok(self.all().await?.into_iter().next())
    }

    /// The first row.
    ///
    /// # Errors
    /// As [`all`](Self::all), and when there is none.
    pub async fn one<T: FromRecord>(self) -> Result<T, DatabaseError> {
        Ok(self.optional().await?.ok_or(sqlx::Error::RowNotFound)?)
    }

    /// Runs the statement for its effect.
    ///
    /// # Errors
    /// As [`all`](Self::all).
    pub async fn execute(self) -> Result<(), DatabaseError> {
        self.all::<Ignored>().await.map(drop)
    }

    fn rows(self) -> BoxFuture<'d, Result<Rows, DatabaseError>> {
        let Self { target, sql, arguments } = self;
        let fetching = async move {
            Ok(match target {
                #[cfg(feature = "sqlite")]
                Target::Pools(Pools::Sqlite { read, .. }, Intent::Read) => Rows::Sqlite(fetch!(sql, arguments, read)),
                #[cfg(feature = "sqlite")]
                Target::Pools(Pools::Sqlite { write, .. }, Intent::Write) => {
                    Rows::Sqlite(fetch!(sql, arguments, write))
                }
                #[cfg(feature = "sqlite")]
                Target::Transaction(Connection::Sqlite(connection)) => Rows::Sqlite(fetch!(sql, arguments, connection)),
                #[cfg(feature = "postgres")]
                Target::Pools(Pools::Postgres(pool), _) => Rows::Postgres(fetch!(sql, arguments, pool)),
                #[cfg(feature = "postgres")]
                Target::Transaction(Connection::Postgres(connection)) => {
                    Rows::Postgres(fetch!(sql, arguments, connection))
                }
                Target::Transaction(_) => return Err(DatabaseError::Missing(WITHOUT_DRIVER.to_owned())),
            })
        };
        Box::pin(async {
            tokio::time::timeout(STATEMENT_DEADLINE, fetching)
                .await
                .map_err(|_| DatabaseError::Deadline(STATEMENT_DEADLINE))?
        })
    }
}

/// A row that nobody looks at.
struct Ignored;

impl FromRecord for Ignored {
    fn from_record(_: &Record<'_>) -> Result<Self, DatabaseError> {
        Ok(Self)
    }
}

/// One integer, as `COUNT(*)` gives it.
impl FromRecord for i64 {
    fn from_record(record: &Record<'_>) -> Result<Self, DatabaseError> {
        Ok(match record.0 {
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(row) => row.try_get(0)?,
            #[cfg(feature = "postgres")]
            Driver::Postgres(row) => row.try_get(0)?,
        })
    }
}
