//! The guide's flow on each broker: the same programs and the same test, only `MESSAGING_URL` is another.
//!
//! `orders api`, `notifications api` and two `notifications consumer`s, on PostgreSQL with a database per service. Under
//! load `orders api` and the consumers are killed with -9 in turn and the broker goes away for a while. At the end each
//! order has its notifications, each once and in order. Then an operator finds and replays a dead letter. `END_TO_END_KILLS` says how often each is killed (2 by default).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod command;
mod flow;
mod operating;
mod services;

use test_brokers::{Kafka, Postgres, RabbitMq, Redis, or_skip};
use tokio::sync::Mutex;

/// One broker at a time: the tests are about what programs do, not about how many of them a machine bears.
static ALONE: Mutex<()> = Mutex::const_new(());

macro_rules! on_each_broker {
    ($($name:ident: $broker:ty),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let _alone = ALONE.lock().await;
            let Some(postgres) = or_skip(Postgres::shared().await) else { return };
            let Some(broker) = or_skip(<$broker>::start_new().await) else { return };
            flow::nothing_is_lost_or_done_twice(postgres, &broker).await;
        }
    )*};
}

on_each_broker! { kafka: Kafka, redis: Redis, rabbitmq: RabbitMq }
