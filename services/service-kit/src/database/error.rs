//! Why a statement failed, told apart by whether trying again can help.

use std::time::Duration;

/// A failed database operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// No answer within this time.
    #[error("no answer within {}", humantime(.0))]
    Deadline(Duration),
    /// The connection, the statement or the row.
    #[error(transparent)]
    Statement(#[from] sqlx::Error),
    /// A migration failed, or the applied ones differ from those of this program.
    #[error("migration: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The database does not exist, and creating it failed or was not asked for.
    #[error("{0}")]
    Missing(String),
}

fn humantime(duration: &Duration) -> String {
    format!("{} s", duration.as_secs())
}

impl DatabaseError {
    /// Whether the database was away, locked or too slow: the same statement may succeed later.
    /// Otherwise the statement itself is at fault.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Deadline(_) => true,
            Self::Statement(error) => is_unavailable(error),
            Self::Migration(_) | Self::Missing(_) => false,
        }
    }
}

fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_passing(&code)),
        _ => false,
    }
}

/// Codes of conditions that pass by themselves.
fn is_passing(code: &str) -> bool {
    // SQLite: the low byte of an extended code is its kind. 5 busy, 6 locked, 10 I/O, 13 full.
    if let Ok(number) = code.parse::<u32>()
        && code.len() < 5
    {
        return matches!(number & 0xff, 5 | 6 | 10 | 13);
    }
    // PostgreSQL: connection exceptions, transaction rollback (serialization, deadlock), insufficient
    // resources, operator intervention (shutdown, cancelled by a timeout), lock not available.
    ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)) || code == "55P03"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passing_conditions_are_told_from_faults_of_the_statement() {
        for code in ["5", "261", "517", "6", "08006", "40001", "40P01", "53300", "57P01", "55P03"] {
            assert!(is_passing(code), "{code} passes");
        }
        for code in ["1", "19", "1555", "2067", "23505", "42P01", "22003"] {
            assert!(!is_passing(code), "{code} does not pass");
        }
    }

    #[test]
    fn a_deadline_and_a_full_pool_are_unavailability() {
        assert!(DatabaseError::Deadline(Duration::from_secs(10)).is_unavailable());
        assert!(DatabaseError::from(sqlx::Error::PoolTimedOut).is_unavailable());
        assert!(!DatabaseError::from(sqlx::Error::RowNotFound).is_unavailable());
    }
}
