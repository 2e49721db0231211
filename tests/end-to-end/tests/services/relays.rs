//! Two processes that relay the events of one database, one of which stands still for longer than its leases.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use service_testing::{Customers, TestDatabase, eventually};
use test_brokers::{Broker, Direction, Faults, Kind, Postgres};
use tokio::sync::watch;

use crate::flow::times;
use crate::observer::Observer;
use crate::seat::Way;
use crate::services::orders;
use crate::tables::{Stands, Tables};

const CUSTOMERS: usize = 4;
/// How many orders are completed at a time.
const ORDERS: usize = 25;
const STUCK: Duration = Duration::from_secs(1);

/// `END_TO_END_RELAY_FREEZES`.
fn freezes(broker: &Broker) -> usize {
    times("END_TO_END_RELAY_FREEZES", usize::from(broker.kind() == Kind::RabbitMq))
}

pub(crate) async fn a_frozen_relay_that_wakes_reverses_nothing(postgres: &Postgres, broker: &Broker) {
    let freezes = freezes(broker);
    if freezes == 0 {
        return;
    }
    let observer = Observer::join(broker).await;
    let database = TestDatabase::on(postgres);
    let serving = orders(&database, "orders-a", Way::direct(broker)).await;
    let other = orders(&database, "orders-b", Way::through_a_proxy(broker).await).await;
    let tables = Tables::of(&database).await;
    tables.build_gate(Stands::BeforeMark).await;
    let service = watch::Sender::new(serving.client().clone());
    let mut customers = Customers::start(CUSTOMERS, &service.subscribe());
    let mut longest = Duration::ZERO;
    for number in 0..freezes {
        customers.complete_more(ORDERS).await;
        // It has its share.
        tables.until_passed(&other.name()).await;
        let stalled = match number % 3 {
            // The broker has what it sent, and its confirms are on their way for as long as it stands still.
            0 => Some(Direction::ToClient),
            // It is about to mark what it has published.
            1 => None,
            // What it has sent is on its way.
            _ => Some(Direction::ToBroker),
        };
        if let Some(direction) = stalled {
            other.route().set(&Faults::new().stall(direction));
            until_stuck(&tables).await;
            other.freeze();
        } else {
            let gate = tables.close_gate(other.name()).await;
            gate.reached().await;
            other.freeze();
            gate.open().await;
        }
        let begin = Instant::now();
        customers.complete_more(ORDERS).await;
        let waiting = tables.recorded().await;
        eventually("the other relay", async || tables.recorded().await.is_disjoint(&waiting).then_some(())).await;
        longest = longest.max(begin.elapsed());
        other.thaw();
        other.route().heal();
    }
    customers.complete_more(ORDERS).await;
    customers.leave().await;
    tables.until_published().await;
    let (events, repeats) = (observer.count(), observer.repeats());
    // What was not confirmed was sent again by the other relay.
    assert!(repeats > 0, "nothing was published twice");
    observer.has_seen_each_once_and_in_order(serving.client()).await;
    println!(
        "{}: {events} events, {freezes} freezes of up to {longest:.1?}, {repeats} published twice, in order",
        broker.kind()
    );
    serving.stop().await;
    other.stop().await;
}

/// Waits until an event has been recorded for longer than any relay takes to send it.
async fn until_stuck(tables: &Tables) {
    let mut since: HashMap<String, Instant> = HashMap::new();
    eventually("events that are on their way", async || {
        let (recorded, now) = (tables.recorded().await, Instant::now());
        since.retain(|event, _| recorded.contains(event));
        for event in recorded {
            since.entry(event).or_insert(now);
        }
        since.values().any(|since| now - *since > STUCK).then_some(())
    })
    .await;
}
