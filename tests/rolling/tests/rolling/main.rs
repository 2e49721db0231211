//! Restarting everything while orders come in: on each broker an open loop of orders, whose rate does not depend on the
//! answers, and SIGTERM for one process after the other. No accepted request fails, no notification is lost or comes twice.
//!
//! `ROLLING_SECONDS`, `ROLLING_RATE` and `ROLLING_ROUNDS` say how long, how many orders a second, and how often each process
//! is restarted. `cargo xtask load` sets them for the figures in the docs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod balancer;
mod fleet;
mod orders;
mod outcome;

use std::ops::Deref;
use std::time::Duration;

use service_testing::MailServer;
use test_brokers::{Broker, Kafka, Postgres, RabbitMq, Redis, or_skip};
use tokio::sync::Mutex;
use tokio::time::interval;

use crate::fleet::Fleet;
use crate::orders::OpenLoop;

/// One broker at a time: figures of one are not to be those of another.
static ALONE: Mutex<()> = Mutex::const_new(());

/// How much is asked of the services.
struct Load {
    lasting: Duration,
    /// Orders a second.
    rate: u32,
    /// How often each process is restarted.
    rounds: u32,
}

impl Load {
    fn from_environment() -> Self {
        let number = |name: &str, default: u32| {
            std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
        };
        Self {
            lasting: Duration::from_secs(number("ROLLING_SECONDS", 10).into()),
            rate: number("ROLLING_RATE", 100),
            rounds: number("ROLLING_ROUNDS", 1),
        }
    }
}

async fn nothing_fails(postgres: &Postgres, broker: &impl Deref<Target = Broker>) {
    let load = Load::from_environment();
    let mail = MailServer::start().await;
    let mut fleet = Fleet::start(postgres, &broker.url(), &mail).await;
    let orders = OpenLoop::start(load.rate, fleet.balancer());
    let restarts = load.rounds * fleet.size();
    // Evenly over the time, the first at once.
    let mut schedule = interval(load.lasting / restarts.max(1));
    for _ in 0..restarts {
        schedule.tick().await;
        fleet.restart_next().await;
    }
    schedule.tick().await;
    let accepted = orders.stop().await;
    let outcome = fleet.outcome(accepted).await;
    println!("{}", outcome.row(&broker.kind().to_string(), load.rate, restarts));
    outcome.check();
    fleet.stop().await;
}

macro_rules! on_each_broker {
    ($($name:ident: $broker:ty),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let _alone = ALONE.lock().await;
            let Some(postgres) = or_skip(Postgres::shared().await) else { return };
            let Some(broker) = or_skip(<$broker>::start_new().await) else { return };
            nothing_fails(postgres, &broker).await;
        }
    )*};
}

on_each_broker! { kafka: Kafka, redis: Redis, rabbitmq: RabbitMq }
