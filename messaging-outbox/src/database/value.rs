//! What goes into a statement and what comes out, for both drivers.

use sqlx::Row;

/// A value bound to a placeholder.
#[derive(Clone, Debug)]
pub(crate) enum Argument {
    Integer(i64),
    Text(String),
    /// Stands where the statement says `{in $1}`, or is one of the lists of `{watched}`.
    Integers(Vec<i64>),
}

impl From<i64> for Argument {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for Argument {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<Vec<i64>> for Argument {
    fn from(value: Vec<i64>) -> Self {
        Self::Integers(value)
    }
}

/// One row of an answer.
pub(crate) enum Record {
    #[cfg(feature = "postgres")]
    Postgres(sqlx::postgres::PgRow),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::sqlite::SqliteRow),
}

impl Record {
    /// The value of a column, counted from 0.
    pub(crate) fn get<T: Column>(&self, column: usize) -> Result<T, sqlx::Error> {
        T::read(self, column)
    }
}

/// A type that a column can be read as.
pub(crate) trait Column: Sized {
    fn read(record: &Record, column: usize) -> Result<Self, sqlx::Error>;
}

macro_rules! columns {
    ($($type:ty),*) => {$(
        impl Column for $type {
            #[inline]
            fn read(record: &Record, column: usize) -> Result<Self, sqlx::Error> {
                match record {
                    #[cfg(feature = "postgres")]
                    Record::Postgres(row) => row.try_get(column),
                    #[cfg(feature = "sqlite")]
                    Record::Sqlite(row) => row.try_get(column),
                }
            }
        }
    )*};
}

columns!(i64, Option<i64>, String, Option<String>, Vec<u8>, Option<Vec<u8>>);
