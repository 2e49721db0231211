//! What a failed statement says: whether it may pass, and whether its effect may be there all the same.

use std::error::Error as StdError;

use messaging::{Error, ErrorKind};

/// The library's error of a database's: [`ErrorKind::Unavailable`] if it may pass, else [`ErrorKind::Rejected`].
pub(crate) fn failed(what: &str, error: sqlx::Error) -> Error {
    let kind = if is_passing(&error) { ErrorKind::Unavailable } else { ErrorKind::Rejected };
    Error::new(kind, format!("{what}: {error}")).with_source(error)
}

/// Whether the database was away, locked or too slow, so that the same may succeed later. Looks through the causes.
pub(crate) fn is_passing(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<sqlx::Error>().is_some_and(passes) {
            return true;
        }
        #[cfg(feature = "postgres")]
        if let Some(error) = error.downcast_ref::<sqlx::postgres::PgDatabaseError>() {
            return code_passes(error.code());
        }
        #[cfg(feature = "sqlite")]
        if let Some(error) = error.downcast_ref::<sqlx::sqlite::SqliteError>() {
            return sqlx::error::DatabaseError::code(error).is_some_and(|code| code_passes(&code));
        }
        next = error.source();
    }
    false
}

fn passes(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code_passes(&code)),
        _ => false,
    }
}

fn code_passes(code: &str) -> bool {
    // SQLite: the low byte of an extended code is its kind. 5 busy, 6 locked, 10 I/O, 13 full.
    if let Ok(number) = code.parse::<u32>()
        && code.len() < 5
    {
        return matches!(number & 0xff, 5 | 6 | 10 | 13);
    }
    // PostgreSQL: connection exceptions, transaction rollback (serialization, deadlock), insufficient resources,
    // operator intervention; lock not available, idle in transaction, read only (a failover going on).
    ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)) || ["55P03", "25P03", "25006"].contains(&code)
}

/// Whether a failed COMMIT may have been one all the same: no answer of the server, or one that it gave while it went
/// down.
pub(crate) fn is_unsure(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08") || code == "10")
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passing_conditions_are_told_from_faults_of_the_statement() {
        for code in ["5", "261", "517", "6", "08006", "40001", "40P01", "53300", "57P01", "55P03", "25P03"] {
            assert!(code_passes(code), "{code} passes");
        }
        for code in ["1", "19", "1555", "2067", "23505", "42P01", "22003", "25P02"] {
            assert!(!code_passes(code), "{code} does not pass");
        }
    }

    #[test]
    fn the_cause_is_found_below_the_errors_of_a_service() {
        #[derive(Debug)]
        struct Wrapped(sqlx::Error);
        impl std::fmt::Display for Wrapped {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("store")
            }
        }
        impl StdError for Wrapped {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(&self.0)
            }
        }
        assert!(is_passing(&Wrapped(sqlx::Error::PoolTimedOut)));
        assert!(!is_passing(&Wrapped(sqlx::Error::RowNotFound)));
        assert!(is_unsure(&sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())));
    }
}
