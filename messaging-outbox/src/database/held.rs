//! [`Held`]: a transaction on a connection of a pool, which the pool does not get back in a state that nobody knows.

use sqlx::{Database, Error, Pool, SqlSafeStr, pool::PoolConnection};
use sqlx_core::transaction::TransactionManager as _;

/// An open transaction. Dropped, it rolls back.
///
/// The driver's own does the same but for one moment: dropped while BEGIN is on its way (by a deadline, or with the
/// handler that waits for it), it leaves a connection to the pool on which a transaction is open and not known. What the
/// next one writes there without a transaction of its own is lost with it.
pub(super) struct Held<DB: Database> {
    connection: PoolConnection<DB>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Beginning,
    Open,
    Ended,
}

impl<DB: Database> Held<DB> {
    pub(super) async fn begin(pool: &Pool<DB>, statement: impl SqlSafeStr) -> Result<Self, Error> {
        let mut held = Self { connection: pool.acquire().await?, stage: Stage::Beginning };
        DB::TransactionManager::begin(&mut held.connection, Some(statement.into_sql_str())).await?;
        held.stage = Stage::Open;
        Ok(held)
    }

    pub(super) fn connection(&mut self) -> &mut DB::Connection {
        &mut self.connection
    }

    pub(super) async fn commit(mut self) -> Result<(), Error> {
        DB::TransactionManager::commit(&mut self.connection).await?;
        self.stage = Stage::Ended;
        Ok(())
    }

    pub(super) async fn roll_back(mut self) -> Result<(), Error> {
        DB::TransactionManager::rollback(&mut self.connection).await?;
        self.stage = Stage::Ended;
        Ok(())
    }
}

impl<DB: Database> Drop for Held<DB> {
    fn drop(&mut self) {
        match self.stage {
            Stage::Beginning => self.connection.close_on_drop(),
            Stage::Open => DB::TransactionManager::start_rollback(&mut self.connection),
            Stage::Ended => {}
        }
    }
}
