//! The programs, with their settings.

use service_testing::{Client, MailServer, TestDatabase};
use test_brokers::{Broker, Postgres};
use tokio::sync::watch;

use crate::seat::{Seat, Way};
use crate::tables::Tables;

/// How many consumers share the events.
const CONSUMERS: [&str; 2] = ["consumer-a", "consumer-b"];

const ORDERS: (&str, &str) = (env!("CARGO_BIN_EXE_end-to-end-orders"), "api");

const NOTIFICATIONS: &str = env!("CARGO_BIN_EXE_end-to-end-notifications");

pub(crate) struct Services {
    pub(crate) broker: String,
    /// Where consumers send e-mail.
    pub(crate) mail: MailServer,
    pub(crate) orders_api: Seat,
    pub(crate) consumers: Vec<Seat>,
    notifications_api: Seat,
    /// The databases, as the test looks at them.
    pub(crate) orders_tables: Tables,
    pub(crate) notifications_tables: Tables,
    /// The orders service, at another address after each start.
    pub(crate) orders: watch::Sender<Client>,
    pub(crate) notifications: Client,
}

impl Services {
    /// All programs, on new databases and this broker.
    pub(crate) async fn start(postgres: &Postgres, broker: &Broker) -> Self {
        let ways = [(); 3].map(|()| Way::direct(broker));
        Self::on(postgres, broker, ways).await
    }

    /// The same, with proxies between the broker and those that publish or consume.
    pub(crate) async fn start_behind_proxies(postgres: &Postgres, broker: &Broker) -> Self {
        let ways = [
            Way::through_a_proxy(broker).await,
            Way::through_a_proxy(broker).await,
            Way::through_a_proxy(broker).await,
        ];
        Self::on(postgres, broker, ways).await
    }

    async fn on(postgres: &Postgres, broker: &Broker, [for_orders, for_a, for_b]: [Way; 3]) -> Self {
        let orders_database = TestDatabase::on(postgres);
        let notifications_database = TestDatabase::on(postgres);
        // First those who listen: not every broker keeps events for groups that it has yet to hear of.
        let mail = MailServer::start().await;
        let mut consumers = Vec::new();
        for (label, way) in CONSUMERS.into_iter().zip([for_a, for_b]) {
            let settings = vec![("SMTP_URL", mail.url()), ("MAIL_FROM", "Shop <shop@example.com>".to_owned())];
            let program = (NOTIFICATIONS, "consumer");
            consumers.push(Seat::start(label, program, &notifications_database, way, settings).await);
        }
        let program = (NOTIFICATIONS, "api");
        let way = Way::direct(broker);
        let notifications_api = Seat::start("notifications", program, &notifications_database, way, Vec::new()).await;
        let orders_api = orders(&orders_database, "orders", for_orders).await;
        Self {
            broker: broker.url(),
            mail,
            orders_tables: Tables::of(&orders_database).await,
            notifications_tables: Tables::of(&notifications_database).await,
            orders: watch::Sender::new(orders_api.client().clone()),
            notifications: notifications_api.client().clone(),
            orders_api,
            notifications_api,
            consumers,
        }
    }

    /// Kills `orders api` and starts it again.
    pub(crate) async fn kill_orders(&mut self) {
        self.orders_api.kill().await;
        self.start_orders().await;
    }

    /// Starts `orders api` once more, and tells its clients where it is.
    pub(crate) async fn start_orders(&mut self) {
        self.orders_api.start_again().await;
        self.orders.send_replace(self.orders_api.client().clone());
    }

    /// Kills one of the consumers and starts it again.
    pub(crate) async fn kill_consumer(&mut self, number: usize) {
        let place = number % self.consumers.len();
        self.consumers[place].kill().await;
        self.consumers[place].start_again().await;
    }

    pub(crate) fn orders(&self) -> Client {
        self.orders.borrow().clone()
    }

    /// Waits until nothing is recorded that is not with the broker.
    pub(crate) async fn until_published(&self) {
        self.orders_tables.until_published().await;
        self.notifications_tables.until_published().await;
    }

    /// Ends all programs as an orchestrator does, and checks that they take it well.
    pub(crate) async fn stop(self) {
        for seat in [self.orders_api].into_iter().chain(self.consumers).chain([self.notifications_api]) {
            seat.stop().await;
        }
    }
}

/// One more `orders api` on this database.
pub(crate) async fn orders(database: &TestDatabase, label: &'static str, way: Way) -> Seat {
    Seat::start(label, ORDERS, database, way, Vec::new()).await
}
