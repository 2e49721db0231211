//! The services on each broker: the same programs and the same tests, only `MESSAGING_URL` is another.
//!
//! `orders api`, `notifications api` and two `notifications consumer`s, on PostgreSQL with a database per service. At the
//! end of each test every order has its notifications, each once and in order. The numbers below are for every day; the
//! variables make more of them, as `cargo xtask chaos` does.
//!
//! - `flow`: the guide's flow; `orders api` and the consumers are killed with -9 in turn (`END_TO_END_KILLS`, 2), the broker
//!   goes away (`END_TO_END_OUTAGE_SECONDS`, 10), and an operator finds and replays a dead letter.
//! - `crashes`: `kill -9` at each of the five places where a crash could lose an event or take effect twice
//!   (`END_TO_END_CRASHES`, 1 at each, on Redis and RabbitMQ). Locks in the database and proxies before the broker hold a program at the place.
//! - `freezes`: consumers stand still for longer than their session (`END_TO_END_FREEZES`, 1 on Kafka).
//! - `relays`: two processes relay one outbox, and one stands still for longer than its lease (`END_TO_END_RELAY_FREEZES`,
//!   1 on RabbitMQ).
//! - `starts`: `orders api` and the consumers are started while the broker is away (`END_TO_END_STARTS`, 1 on
//!   Redis).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod command;
mod crashes;
mod flow;
mod freezes;
mod observer;
mod operating;
mod relays;
mod seat;
mod services;
mod starts;
mod tables;

use tokio::sync::Mutex;

/// One test at a time: the tests are about what programs do, not about how many of them a machine bears.
static ALONE: Mutex<()> = Mutex::const_new(());

macro_rules! on_each_broker {
    ($($about:ident: $test:path),* $(,)?) => {$(
        mod $about {
            on_each_broker! { @ $test: kafka = Kafka, redis = Redis, rabbitmq = RabbitMq }
        }
    )*};
    (@ $test:path: $($name:ident = $broker:ident),*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let _alone = crate::ALONE.lock().await;
            let Some(postgres) = test_brokers::or_skip(test_brokers::Postgres::shared().await) else { return };
            let Some(broker) = test_brokers::or_skip(test_brokers::$broker::start_new().await) else { return };
            $test(postgres, &broker).await;
        }
    )*};
}

mod on {
    on_each_broker! {
        flow: crate::flow::nothing_is_lost_or_done_twice,
        crashes: crate::crashes::nothing_is_lost_or_done_twice,
        freezes: crate::freezes::nothing_is_done_twice_or_out_of_order,
        relays: crate::relays::a_frozen_relay_that_wakes_reverses_nothing,
        starts: crate::starts::what_starts_first_waits,
    }
}
