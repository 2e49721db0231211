//! Settling single messages by hand: in any order, whatever their keys, and what is not settled stays.

use std::time::Duration;

use messaging::{Admin, Message, Position, Settler, Unsettled};
use messaging_memory::MemoryBroker;

const TOPIC: &str = "orders.billing.dlq";
const GROUP: &str = "operators";
const PATIENCE: Duration = Duration::from_secs(5);

async fn with_messages(payloads: &[&str]) -> MemoryBroker {
    let bus = MemoryBroker::new();
    for payload in payloads {
        let message = Message::new(TOPIC, payload.to_string()).with_key("k");
        bus.messaging().publish_raw(message).await.unwrap();
    }
    bus
}

async fn join(bus: &MemoryBroker) -> Settler {
    Settler::join(&**bus.messaging().broker(), GROUP, TOPIC).await.unwrap()
}

/// All that is handed over until nothing more comes.
async fn all(settler: &mut Settler) -> Vec<Unsettled> {
    let mut found = Vec::new();
    while let Some(message) = settler.next(PATIENCE).await.unwrap() {
        found.push(message);
    }
    found
}

fn payloads<'a>(found: impl IntoIterator<Item = &'a messaging::Delivery>) -> Vec<String> {
    found.into_iter().map(|delivery| String::from_utf8(delivery.message.payload.to_vec()).unwrap()).collect()
}

async fn unsettled(admin: &dyn Admin, from: u64, limit: usize) -> Vec<String> {
    payloads(&admin.unsettled(GROUP, TOPIC, 0, Position::new(from), limit).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_last_of_a_key_can_be_settled_before_the_first() {
    let bus = with_messages(&["a", "b", "c", "d"]).await;
    let admin = bus.messaging().admin();
    assert_eq!(unsettled(&*admin, 0, 10).await, ["a", "b", "c", "d"], "a group that was never there");
    let mut settler = join(&bus).await;
    let found = all(&mut settler).await;
    assert_eq!(payloads(found.iter().map(|message| &message.delivery)), ["a", "b", "c", "d"]);
    assert!(settler.settle(&found[3]) && settler.settle(&found[1]));
    assert!(!settler.settle(&found[1]), "twice has no effect");
    settler.leave(PATIENCE).await.unwrap();
    assert_eq!(unsettled(&*admin, 0, 10).await, ["a", "c"]);
    assert_eq!(unsettled(&*admin, 1, 10).await, ["c"]);
    assert_eq!(unsettled(&*admin, 0, 1).await, ["a"]);
    assert_eq!(admin.progress(GROUP, TOPIC).await.unwrap().iter().map(|row| row.lag).sum::<u64>(), 2);
    let mut again = join(&bus).await;
    assert_eq!(payloads(all(&mut again).await.iter().map(|message| &message.delivery)), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn what_one_that_was_dropped_had_goes_to_the_next() {
    let bus = with_messages(&["a", "b"]).await;
    let mut first = join(&bus).await;
    assert_eq!(all(&mut first).await.len(), 2);
    let mut second = join(&bus).await;
    assert_eq!(all(&mut second).await.len(), 0, "one owner at a time");
    drop(first);
    let found = all(&mut second).await;
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|message| second.settle(message)));
    second.leave(PATIENCE).await.unwrap();
    assert_eq!(unsettled(&*bus.messaging().admin(), 0, 10).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_moves_to_one_that_joins_and_nothing_of_it_is_settled_by_the_other() {
    let bus = MemoryBroker::new();
    for number in 0..32 {
        let message = Message::new("t", number.to_string()).with_key(number.to_string());
        bus.messaging().publish_raw(message).await.unwrap();
    }
    let broker = bus.messaging().broker().clone();
    let mut first = Settler::join(&*broker, GROUP, "t").await.unwrap();
    let held = all(&mut first).await;
    assert_eq!(held.len(), 32);
    let mut second = Settler::join(&*broker, GROUP, "t").await.unwrap();
    // The first gives up its share as it is polled on, after the drain.
    assert!(first.next(PATIENCE).await.unwrap().is_none());
    let moved = all(&mut second).await;
    assert!(!moved.is_empty() && moved.len() < 32, "{}", moved.len());
    let kept = held.iter().filter(|message| first.settle(message)).count();
    assert_eq!(kept + moved.len(), 32);
    first.leave(PATIENCE).await.unwrap();
    let lag: u64 = broker.admin().progress(GROUP, "t").await.unwrap().iter().map(|row| row.lag).sum();
    assert_eq!(lag, moved.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn the_end_is_where_the_next_message_will_stand() {
    let bus = with_messages(&["a", "b"]).await;
    let admin = bus.messaging().admin();
    assert_eq!(admin.end(TOPIC, 0).await.unwrap(), Position::new(2));
}
