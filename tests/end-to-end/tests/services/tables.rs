//! A service's database as a test looks at it: what is recorded, what is handled, and gates in it at which programs stand
//! still.

use std::collections::HashSet;

use service_testing::{TestDatabase, eventually};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

/// A gate is a lock that a statement of the program has to pass, by the name that the program gave the database.
const GATE: &str = "
    CREATE TABLE test_passed (program TEXT NOT NULL);
    CREATE FUNCTION test_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock_shared(hashtext(current_setting('application_name')));
        INSERT INTO test_passed VALUES (current_setting('application_name'));
        RETURN NULL;
    END $$";

/// Where a gate stands.
#[derive(Clone, Copy)]
pub(crate) enum Stands {
    /// In front of the relay's statement that is done with rows, which follows the broker's confirm.
    BeforeMark,
    /// Behind the last statement of a handler's transaction, in front of its COMMIT.
    BeforeCommit,
}

pub(crate) struct Tables {
    url: String,
    pool: PgPool,
}

impl Tables {
    pub(crate) async fn of(database: &TestDatabase) -> Self {
        let url = format!("{}?application_name=test", database.url());
        Self { pool: PgPool::connect(&url).await.unwrap(), url }
    }

    /// The ids of events that are recorded and not known to be with the broker.
    pub(crate) async fn recorded(&self) -> HashSet<String> {
        let ids = sqlx::query_scalar("SELECT event_id FROM messaging_outbox").fetch_all(&self.pool).await;
        ids.unwrap().into_iter().collect()
    }

    /// How many of these events a group has handled.
    pub(crate) async fn handled(&self, group: &str, events: &[String]) -> usize {
        let count = "SELECT COUNT(*) FROM messaging_inbox WHERE consumer_group = $1 AND event_id = ANY($2)";
        let handled: i64 = sqlx::query_scalar(count).bind(group).bind(events).fetch_one(&self.pool).await.unwrap();
        usize::try_from(handled).unwrap()
    }

    /// Waits until nothing is recorded that is not with the broker.
    pub(crate) async fn until_published(&self) {
        eventually("an empty outbox", async || self.recorded().await.is_empty().then_some(())).await;
        let dead: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM messaging_outbox_dead").fetch_one(&self.pool).await.unwrap();
        assert_eq!(dead, 0, "events that were given up");
    }

    /// Builds a gate, which is open.
    pub(crate) async fn build_gate(&self, stands: Stands) {
        let when = match stands {
            Stands::BeforeMark => "BEFORE DELETE",
            Stands::BeforeCommit => "AFTER INSERT",
        };
        let trigger = format!(
            "{GATE}; CREATE TRIGGER test_gate {when} ON messaging_outbox FOR EACH STATEMENT EXECUTE FUNCTION test_gate()"
        );
        sqlx::raw_sql(AssertSqlSafe(trigger)).execute(&self.pool).await.unwrap();
    }

    /// How many transactions of this program passed the gate, and were committed.
    pub(crate) async fn passed(&self, program: &str) -> i64 {
        let count = sqlx::query_scalar("SELECT COUNT(*) FROM test_passed WHERE program = $1").bind(program);
        count.fetch_one(&self.pool).await.unwrap()
    }

    /// Waits until one more transaction of this program has passed the gate.
    pub(crate) async fn until_passed(&self, program: &str) {
        let before = self.passed(program).await;
        eventually("a program that passes a gate", async || (self.passed(program).await > before).then_some(())).await;
    }

    /// Waits until all that is recorded now is with the broker.
    pub(crate) async fn until_caught_up(&self) {
        let before = self.recorded().await;
        eventually("a relay that catches up", async || self.recorded().await.is_disjoint(&before).then_some(())).await;
    }

    /// Closes the gate for this program.
    pub(crate) async fn close_gate(&self, program: String) -> ClosedGate<'_> {
        let mut holder = PgConnection::connect(&self.url).await.unwrap();
        let lock = sqlx::query("SELECT pg_advisory_lock(hashtext($1))").bind(&program);
        lock.execute(&mut holder).await.unwrap();
        ClosedGate { tables: self, program, holder }
    }

    /// Closes the gate for these programs, waits until one of them stands in front of it, and lets the others go on;
    /// answers which one it is.
    pub(crate) async fn first_at_gate(&self, programs: impl IntoIterator<Item = String>) -> (usize, ClosedGate<'_>) {
        let mut gates = Vec::new();
        for program in programs {
            gates.push(self.close_gate(program).await);
        }
        let first = eventually("one of several programs at a gate", async || {
            for (number, gate) in gates.iter().enumerate() {
                if gate.is_reached().await {
                    return Some(number);
                }
            }
            None
        })
        .await;
        let gate = gates.swap_remove(first);
        for other in gates {
            other.open().await;
        }
        (first, gate)
    }
}

/// A gate that one program cannot pass.
pub(crate) struct ClosedGate<'a> {
    tables: &'a Tables,
    program: String,
    holder: PgConnection,
}

impl ClosedGate<'_> {
    /// Waits until the program stands in front of it.
    pub(crate) async fn reached(&self) {
        eventually("a program at a gate", async || self.is_reached().await.then_some(())).await;
    }

    async fn is_reached(&self) -> bool {
        let waiting = "SELECT EXISTS (SELECT 1 FROM pg_locks JOIN pg_stat_activity a USING (pid) \
                       WHERE locktype = 'advisory' AND NOT granted AND application_name = $1 \
                       AND a.datname = current_database())";
        let waiting = sqlx::query_scalar(waiting).bind(&self.program);
        waiting.fetch_one(&self.tables.pool).await.unwrap()
    }

    /// Opens it for whoever waits there.
    pub(crate) async fn open(self) {
        self.holder.close().await.unwrap();
    }

    /// Opens it after the program has died there: its connections end first, as they do when a server notices.
    pub(crate) async fn open_behind_the_dead(self) {
        let end = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1 \
                   AND datname = current_database()";
        eventually("the end of a dead program's connections", async || {
            let left: i64 = sqlx::query_scalar(end).bind(&self.program).fetch_one(&self.tables.pool).await.unwrap();
            (left == 0).then_some(())
        })
        .await;
        self.open().await;
    }
}
