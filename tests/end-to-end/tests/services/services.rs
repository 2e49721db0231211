//! The programs, with their settings.

use serde_json::Value;
use service_kit::Database;
use service_testing::{Client, Ended, MailServer, Program, TestDatabase, eventually};
use test_brokers::Postgres;
use tokio::sync::watch;

/// How many consumers share the events.
const CONSUMERS: usize = 2;

pub(crate) struct Services {
    pub(crate) broker: String,
    /// Where consumers send e-mail.
    pub(crate) mail: MailServer,
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
        let mail = MailServer::start().await;
        let mut consumers = Vec::new();
        for _ in 0..CONSUMERS {
            consumers.push(consumer(&notifications_database, &broker, &mail).await);
        }
        let path = env!("CARGO_BIN_EXE_end-to-end-notifications");
        let (notifications_api, notifications) = start(path, "api", &notifications_database, &broker, []).await;
        let (orders_api, orders) = orders(&orders_database, &broker).await;
        Self {
            broker,
            mail,
            orders_database,
            notifications_database,
            orders_api,
            notifications_api,
            consumers,
            orders: watch::Sender::new(orders),
            notifications,
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
        self.consumers.push(consumer(&self.notifications_database, &self.broker, &self.mail).await);
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
    start(env!("CARGO_BIN_EXE_end-to-end-orders"), "api", database, broker, []).await
}

async fn consumer(database: &TestDatabase, broker: &str, mail: &MailServer) -> Program {
    let settings = [("SMTP_URL", mail.url()), ("MAIL_FROM", "Shop <shop@example.com>".to_owned())];
    start(env!("CARGO_BIN_EXE_end-to-end-notifications"), "consumer", database, broker, settings).await.0
}

/// Starts a program and waits until it is ready.
async fn start<const MORE: usize>(
    path: &str,
    process: &str,
    database: &TestDatabase,
    broker: &str,
    more: [(&'static str, String); MORE],
) -> (Program, Client) {
    let environment = [
        ("LISTEN_ADDR", "127.0.0.1:0".to_owned()),
        ("DATABASE_URL", database.url().to_owned()),
        ("CREATE_DATABASE", "true".to_owned()),
        ("MESSAGING_URL", broker.to_owned()),
    ];
    let mut program = Program::start(path, &[process], environment.into_iter().chain(more));
    let client = Client::new(program.address().await);
    eventually("a service that is ready", async || {
        let Value::String(status) = client.get("/health/ready").await.body["status"].take() else { return None };
        (status == "ready").then_some(())
    })
    .await;
    (program, client)
}
