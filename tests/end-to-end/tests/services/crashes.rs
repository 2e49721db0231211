//! `kill -9` at the five places where a crash could lose an event or take effect twice.

use std::collections::BTreeMap;
use std::time::Duration;

use service_testing::{Client, Customers, Method, each_is_notified_once, eventually, until_notified};
use test_brokers::{Broker, Direction, Faults, Kind, Postgres, Proxy, Route};
use tokio::time::timeout;

use crate::flow::{each_is_mailed, times};
use crate::observer::Observer;
use crate::seat::Seat;
use crate::services::Services;
use crate::tables::Stands;

const CUSTOMERS: usize = 4;
/// How many orders are completed between two crashes.
const ORDERS: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    CommitToPublish,
    PublishToConfirm,
    ConfirmToMark,
    EffectToCommit,
    CommitToSettle,
}

const POINTS: [Point; 5] = [
    Point::CommitToPublish,
    Point::EffectToCommit,
    Point::PublishToConfirm,
    Point::CommitToSettle,
    Point::ConfirmToMark,
];

/// How long what should follow a stall at once may take, before it is tried again.
const SOON: Duration = Duration::from_secs(5);

/// How many crashes at each point: `END_TO_END_CRASHES`.
fn crashes(broker: &Broker) -> usize {
    times("END_TO_END_CRASHES", usize::from(broker.kind() != Kind::Kafka))
}

pub(crate) async fn nothing_is_lost_or_done_twice(postgres: &Postgres, broker: &Broker) {
    let crashes = crashes(broker);
    if crashes == 0 {
        return;
    }
    let observer = Observer::join(broker).await;
    let mut services = Services::start_behind_proxies(postgres, broker).await;
    services.orders_tables.build_gate(Stands::BeforeMark).await;
    services.notifications_tables.build_gate(Stands::BeforeCommit).await;
    let mut customers = Customers::start(CUSTOMERS, &services.orders.subscribe());
    let (mut struck, mut duplicates) = (BTreeMap::new(), 0_usize);
    for _ in 0..crashes {
        for point in POINTS {
            customers.complete_more(ORDERS).await;
            match point {
                Point::CommitToPublish => before_the_publish(&mut services, &observer).await,
                Point::PublishToConfirm => before_the_confirm(&mut services, &observer).await,
                Point::ConfirmToMark => before_the_mark(&mut services, &observer).await,
                Point::EffectToCommit => duplicates += before_the_commit(&mut services).await,
                Point::CommitToSettle => duplicates += before_the_settlement(&mut services).await,
            }
            *struck.entry(point).or_insert(0) += 1;
        }
    }
    customers.complete_more(ORDERS).await;
    customers.leave().await;

    until_notified(&services.orders(), &services.notifications).await;
    services.until_published().await;
    let orders = each_is_notified_once(&services.orders(), &services.notifications).await;
    let mails = each_is_mailed(&services.notifications, &services.mail).await;
    for consumer in &services.consumers {
        duplicates += duplicates_of(consumer.client()).await;
    }
    let repeats = observer.repeats();
    observer.has_seen_each_once_and_in_order(&services.orders()).await;
    println!(
        "{}: {orders} orders, {mails} e-mails; killed {struck:?}; {repeats} events published twice, \
         {duplicates} deliveries recognised as duplicates",
        broker.kind()
    );
    // What was published or handled, and not noted, comes again: else the crash was elsewhere.
    assert!(repeats >= 2 * crashes, "{repeats} events came twice");
    assert!(duplicates >= crashes, "{duplicates} duplicates were recognised");
    services.stop().await;
}

/// Commit, then publish: what is recorded does not get to the broker.
async fn before_the_publish(services: &mut Services, observer: &Observer) {
    let route = services.orders_api.route();
    let stuck = loop {
        let sent = stall(route, Direction::ToBroker);
        let before = services.orders_tables.recorded().await;
        let recorded: Vec<String> = eventually("an event that is recorded", async || {
            let new: Vec<_> = services.orders_tables.recorded().await.difference(&before).cloned().collect();
            (!new.is_empty()).then_some(new)
        })
        .await;
        if passed(route, Direction::ToBroker) == sent {
            break recorded;
        }
        route.heal();
    };
    services.orders_api.kill().await;
    forget(services.orders_api.route());
    for event in stuck {
        assert!(!observer.has_seen(&event), "{event} was published");
        assert!(services.orders_tables.recorded().await.contains(&event), "{event} is not recorded");
    }
    services.start_orders().await;
}

/// Publish, then confirm: the broker has the event, and its answer does not come.
async fn before_the_confirm(services: &mut Services, observer: &Observer) {
    let route = services.orders_api.route();
    let published = loop {
        // Where one batch is on its way at a time, what is recorded from now on waits for all that was held up before.
        services.orders_tables.until_caught_up().await;
        let answered = stall(route, Direction::ToClient);
        // What was recorded by now may be confirmed already.
        let before = services.orders_tables.recorded().await;
        let published = eventually("an event that is published", async || {
            let recorded = services.orders_tables.recorded().await;
            recorded.difference(&before).find(|event| observer.has_seen(event)).cloned()
        });
        // Nothing is published any more where all that may be unconfirmed was when the stall began.
        if let Ok(published) = timeout(SOON, published).await
            && passed(route, Direction::ToClient) == answered
        {
            break published;
        }
        route.heal();
    };
    services.orders_api.kill().await;
    forget(services.orders_api.route());
    assert!(services.orders_tables.recorded().await.contains(&published), "{published} is marked");
    services.start_orders().await;
}

/// Confirm, then mark: the relay is about to delete the row.
async fn before_the_mark(services: &mut Services, observer: &Observer) {
    let gate = services.orders_tables.close_gate(services.orders_api.name()).await;
    gate.reached().await;
    services.orders_api.kill().await;
    gate.open_behind_the_dead().await;
    eventually("a recorded event that is with the broker", async || {
        services.orders_tables.recorded().await.iter().any(|event| observer.has_seen(event)).then_some(())
    })
    .await;
    services.start_orders().await;
}

/// Effect, then commit: the notification and the request for its e-mail are written. Answers how many duplicates the
/// process had recognised.
async fn before_the_commit(services: &mut Services) -> usize {
    let (number, gate) = services.notifications_tables.first_at_gate(services.consumers.iter().map(Seat::name)).await;
    let consumer = &mut services.consumers[number];
    let duplicates = duplicates_of(consumer.client()).await;
    consumer.kill().await;
    gate.open_behind_the_dead().await;
    consumer.start_again().await;
    duplicates
}

/// Commit, then settle: the transaction is through, and the broker does not hear of it. Answers how many duplicates the
/// process had recognised.
async fn before_the_settlement(services: &mut Services) -> usize {
    let tables = &services.notifications_tables;
    let (number, duplicates) = loop {
        let (number, gate) = tables.first_at_gate(services.consumers.iter().map(Seat::name)).await;
        let consumer = &services.consumers[number];
        let duplicates = duplicates_of(consumer.client()).await;
        let settled = stall(consumer.route(), Direction::ToBroker);
        let committed = tables.passed(&consumer.name()).await;
        gate.open().await;
        let commit = eventually("a commit", async || (tables.passed(&consumer.name()).await > committed).then_some(()));
        // It need not come: what waited at the gate may have been another's by then.
        if timeout(SOON, commit).await.is_ok() && passed(consumer.route(), Direction::ToBroker) == settled {
            break (number, duplicates);
        }
        consumer.route().heal();
    };
    let consumer = &mut services.consumers[number];
    consumer.kill().await;
    forget(consumer.route());
    consumer.start_again().await;
    duplicates
}

/// From now on nothing passes this way; answers what has until now.
fn stall(route: &Route, direction: Direction) -> u64 {
    route.set(&Faults::new().stall(direction));
    passed(route, direction)
}

/// How many bytes have passed.
fn passed(route: &Route, direction: Direction) -> u64 {
    let traffic = route.proxies().iter().map(Proxy::traffic);
    traffic.map(|traffic| if direction == Direction::ToBroker { traffic.to_broker } else { traffic.to_client }).sum()
}

/// What is on its way from a dead program never arrives; the next program's way is free.
fn forget(route: &Route) {
    route.reset();
    route.heal();
}

/// How many deliveries a consumer has recognised as duplicates.
async fn duplicates_of(consumer: &Client) -> usize {
    let metrics = consumer.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let lines = metrics.lines().filter(|line| line.starts_with("messaging_duplicates_total"));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap()).sum()
}
