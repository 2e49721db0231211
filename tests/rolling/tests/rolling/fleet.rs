//! All processes, and their graceful restarts.

use std::collections::VecDeque;

use serde_json::Value;
use service_kit::Database;
use service_testing::{Client, Ended, MailServer, Program, TestDatabase, eventually};
use test_brokers::Postgres;

use crate::balancer::Balancer;
use crate::orders::Posted;
use crate::outcome::{Notified, Outcome};

const ORDERS: &str = env!("CARGO_BIN_EXE_rolling-orders");
const NOTIFICATIONS: &str = env!("CARGO_BIN_EXE_rolling-notifications");
const ANY_PORT: &str = "127.0.0.1:0";

pub(crate) struct Fleet {
    /// The first is to be restarted next.
    processes: VecDeque<Process>,
    balancer: Balancer,
    orders: TestDatabase,
    notifications: TestDatabase,
}

impl Fleet {
    /// Two of `orders api`, two of `notifications consumer`, and a `notifications api`.
    pub(crate) async fn start(postgres: &Postgres, broker: &str, mail: &MailServer) -> Self {
        let (orders, notifications) = (TestDatabase::on(postgres), TestDatabase::on(postgres));
        let on = |database: &TestDatabase| {
            [
                ("DATABASE_URL", database.url().to_owned()),
                ("CREATE_DATABASE", "true".to_owned()),
                ("MESSAGING_URL", broker.to_owned()),
                ("RUST_LOG", "warn,service_kit=info".to_owned()),
            ]
        };
        let sending = [("SMTP_URL", mail.url()), ("MAIL_FROM", "Shop <shop@example.com>".to_owned())];
        let consumer = || on(&notifications).into_iter().chain(sending.clone()).collect();
        // First those who listen: not every broker keeps events for groups that it has yet to hear of.
        let consumers = [
            Process::start(NOTIFICATIONS, "consumer", ANY_PORT, consumer()).await,
            Process::start(NOTIFICATIONS, "consumer", ANY_PORT, consumer()).await,
        ];
        let apis = [
            Process::start(ORDERS, "api", ANY_PORT, on(&orders).into()).await,
            Process::start(ORDERS, "api", ANY_PORT, on(&orders).into()).await,
        ];
        let api = Process::start(NOTIFICATIONS, "api", ANY_PORT, on(&notifications).into()).await;
        let balancer = Balancer::new(apis.iter().map(|replica| replica.address.clone()));
        let ([first, second], [third, fourth]) = (apis, consumers);
        let processes = VecDeque::from([first, third, second, fourth, api]);
        Self { processes, balancer, orders, notifications }
    }

    pub(crate) fn balancer(&self) -> Balancer {
        self.balancer.clone()
    }

    /// How many processes there are.
    pub(crate) fn size(&self) -> u32 {
        u32::try_from(self.processes.len()).unwrap()
    }

    /// Ends a process as an orchestrator does, and starts it again at the same address.
    pub(crate) async fn restart_next(&mut self) {
        let Some(Process { path, role, address, settings, program }) = self.processes.pop_front() else { return };
        ended_well(program).await;
        self.processes.push_back(Process::start(path, role, &address, settings).await);
    }

    /// What came of the orders, once all that they call for is done.
    pub(crate) async fn outcome(&self, posted: Posted) -> Outcome {
        let database = Database::open(&self.notifications.settings(), &[]).await.unwrap();
        let count = async |query: &'static str| database.read(query).one::<i64>().await.unwrap();
        let (all, unsent) =
            ("SELECT COUNT(*) FROM notifications", "SELECT COUNT(*) FROM notifications WHERE sent_at IS NULL");
        let expected = i64::try_from(posted.accepted.len()).unwrap();
        eventually("a notification of each order", async || (count(all).await >= expected).then_some(())).await;
        eventually("their e-mail", async || (count(unsent).await == 0).then_some(())).await;
        for database in [&self.orders, &self.notifications] {
            let database = Database::open(&database.settings(), &[]).await.unwrap();
            let recorded = "SELECT COUNT(*) FROM messaging_outbox";
            eventually("an empty outbox", async || {
                (database.read(recorded).one::<i64>().await.unwrap() == 0).then_some(())
            })
            .await;
        }
        let rows: Vec<Notified> = database.read("SELECT body, created_at FROM notifications").all().await.unwrap();
        Outcome { posted, rows, refused: self.balancer.refused() }
    }

    /// Ends all processes, and checks that they take it well.
    pub(crate) async fn stop(self) {
        for process in self.processes {
            ended_well(process.program).await;
        }
    }
}

struct Process {
    path: &'static str,
    role: &'static str,
    address: String,
    settings: Vec<(&'static str, String)>,
    program: Program,
}

impl Process {
    /// Starts it at this address, and waits until it is ready.
    async fn start(
        path: &'static str,
        role: &'static str,
        address: &str,
        settings: Vec<(&'static str, String)>,
    ) -> Self {
        let address = [("LISTEN_ADDR", address.to_owned())];
        let mut program = Program::start(path, &[role], settings.iter().cloned().chain(address));
        let address = program.address().await;
        let client = Client::new(&address);
        eventually("a process that is ready", async || {
            let Value::String(status) = client.get("/health/ready").await.body["status"].take() else { return None };
            (status == "ready").then_some(())
        })
        .await;
        Self { path, role, address, settings, program }
    }
}

async fn ended_well(program: Program) {
    program.terminate();
    let Ended { status, log } = program.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
}
