//! Consumers that stand still for longer than the broker waits for them, in the middle of a transaction or anywhere, and
//! then go on.

use std::time::{Duration, Instant};

use service_testing::{Customers, each_is_notified_once, eventually, until_notified};
use test_brokers::{Broker, Kind, Postgres};

use crate::flow::times;
use crate::observer::Observer;
use crate::seat::Seat;
use crate::services::Services;
use crate::tables::Stands;

const CUSTOMERS: usize = 4;
/// How many orders are completed before a freeze, and while it lasts.
const ORDERS: usize = 25;
/// Longer than a session of Kafka's, a lease of Redis' and three heartbeats of RabbitMQ's, at their defaults.
const SESSION: Duration = Duration::from_secs(13);

/// `END_TO_END_FREEZES`.
fn freezes(broker: &Broker) -> usize {
    times("END_TO_END_FREEZES", usize::from(broker.kind() == Kind::Kafka))
}

pub(crate) async fn nothing_is_done_twice_or_out_of_order(postgres: &Postgres, broker: &Broker) {
    let freezes = freezes(broker);
    if freezes == 0 {
        return;
    }
    let observer = Observer::join(broker).await;
    let services = Services::start(postgres, broker).await;
    let tables = &services.notifications_tables;
    tables.build_gate(Stands::BeforeCommit).await;
    let mut customers = Customers::start(CUSTOMERS, &services.orders.subscribe());
    let mut longest = Duration::ZERO;
    for number in 0..freezes {
        customers.complete_more(ORDERS).await;
        let (first, gate) = tables.first_at_gate(services.consumers.iter().map(Seat::name)).await;
        let consumer = &services.consumers[first];
        // Two of three with effects that are written and not committed, the others wherever they are.
        if number % 3 < 2 {
            consumer.freeze();
            gate.open().await;
        } else {
            gate.open().await;
            consumer.freeze();
        }
        let (begin, before) = (Instant::now(), observer.count());
        while begin.elapsed() < SESSION {
            customers.complete_more(ORDERS).await;
        }
        // Its share goes on without it.
        let since = observer.since(before);
        eventually("the handling of events by the others", async || {
            let handled = tables.handled("notifications-service", &since).await;
            (handled == since.len()).then_some(())
        })
        .await;
        longest = longest.max(begin.elapsed());
        consumer.thaw();
    }
    customers.complete_more(ORDERS).await;
    customers.leave().await;

    until_notified(&services.orders(), &services.notifications).await;
    let orders = each_is_notified_once(&services.orders(), &services.notifications).await;
    observer.has_seen_each_once_and_in_order(&services.orders()).await;
    println!("{}: {orders} orders, {freezes} freezes of up to {longest:.1?}, none twice, in order", broker.kind());
    services.stop().await;
}
