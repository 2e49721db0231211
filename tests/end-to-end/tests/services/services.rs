//! The programs, with their settings.

use serde_json::Value;
use service_kit::Database;
use service_testing::{Client, Ended, Program, TestDatabase, eventually};
use test_brokers::Postgres;
use tokio::sync::watch;

/// How many consumers share the events.
const CONSUMERS: usize = 2;

pub(crate) struct Services {
    broker: String,
    orders_database: TestDatabase,
    notifications_database: TestDatabase,
    orders_api: Program,
    notifications_api: Program,
    consumers: Vec<Program>,
    /// The orders service, at another address after each start.
    pub(crate) orders: watch::Sender<Client>,
    pub(crate) notifications: Client,
}

impl Services {
    /// All programs, on new databases and this broker.
    pub(crate) async fn start(postgres: &Postgres, broker: String) -> Self {
        let orders_database = TestDatabase::on(postgres);
        let notifications_database = TestDatabase::on(postgres);
        // First those who listen: not every broker keeps events for groups that it has yet to hear of.
        let mut consumers = Vec::new();
        for _ in 0..CONSUMERS {
            consumers.push(notifications("consumer", &notifications_database, &broker).await.0);
        }
        let (notifications_api, address) = notifications("api", &notifications_database, &broker).await;
        let (orders_api, orders) = orders(&orders_database, &broker).await;
        Self {
            broker,
            orders_database,
            notifications_database,
            orders_api,
            notifications_api,
            consumers,
            orders: watch::Sender::new(orders),
            notifications: address,
        }
    }

    /// Kills `orders api` and starts it again.
    pub(crate) async fn kill_orders(&mut self) {
        self.orders_api.kill();
        let (program, client) = orders(&self.orders_database, &self.broker).await;
        self.orders_api = program;
        self.orders.send_replace(client);
    }

    /// Kills one of the consumers and starts it again.
    pub(crate) async fn kill_consumer(&mut self, number: usize) {
        let place = number % self.consumers.len();
        self.consumers.swap_remove(place).killed().await;
        self.consumers.push(notifications("consumer", &self.notifications_database, &self.broker).await.0);
    }

    pub(crate) fn orders(&self) -> Client {
        self.orders.borrow().clone()
    }

    /// Waits until nothing is recorded that is not with the broker.
    pub(crate) async fn until_published(&self) {
        for database in [&self.orders_database, &self.notifications_database] {
            let database = Database::open(&database.settings(), &[]).await.unwrap();
            eventually("an empty outbox", async || {
                let rows: i64 = database.read("SELECT COUNT(*) FROM messaging_outbox").one().await.unwrap();
                (rows == 0).then_some(())
            })
            .await;
            let dead: i64 = database.read("SELECT COUNT(*) FROM messaging_outbox_dead").one().await.unwrap();
            assert_eq!(dead, 0, "events that were given up");
        }
    }

    /// Ends all programs as an orchestrator does, and checks that they take it well.
    pub(crate) async fn stop(self) {
        for program in [self.orders_api].into_iter().chain(self.consumers).chain([self.notifications_api]) {
            program.terminate();
            let Ended { status, log } = program.ended().await;
            assert_eq!(status.code(), Some(0), "{log}");
        }
    }
}

async fn orders(database: &TestDatabase, broker: &str) -> (Program, Client) {
    start(env!("CARGO_BIN_EXE_end-to-end-orders"), "api", database, broker).await
}

async fn notifications(process: &str, database: &TestDatabase, broker: &str) -> (Program, Client) {
    start(env!("CARGO_BIN_EXE_end-to-end-notifications"), process, database, broker).await
}

/// Starts a program and waits until it is ready.
async fn start(path: &str, process: &str, database: &TestDatabase, broker: &str) -> (Program, Client) {
    let environment = [
        ("LISTEN_ADDR", "127.0.0.1:0"),
        ("DATABASE_URL", database.url()),
        ("CREATE_DATABASE", "true"),
        ("MESSAGING_URL", broker),
    ];
    let mut program = Program::start(path, &[process], environment);
    let client = Client::new(program.address().await);
    eventually("a service that is ready", async || {
        let Value::String(status) = client.get("/health/ready").await.body["status"].take() else { return None };
        (status == "ready").then_some(())
    })
    .await;
    (program, client)
}
