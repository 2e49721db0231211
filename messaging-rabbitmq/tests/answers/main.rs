//! The broker's answers, at the moments at which they are easily misread: a message that came back or was refused is never
//! taken for a stored one. A program of its own, since what the client traces is the whole process's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod gate;
mod merging;

use std::{sync::Arc, time::Duration};

use lapin::{
    ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use messaging::{Backend as _, Message, Messaging, MessagingOptions, Outcome, TopicSpec};
use messaging_rabbitmq::RabbitMqBackend;
use test_brokers::{RabbitMq, or_skip};
use tokio::sync::Mutex;

use gate::{Gate, Hold};
use merging::Merging;

const SOON: Duration = Duration::from_secs(60);
const MESSAGES: u64 = 64;
const MANY: u64 = 200;
const ROUNDS: usize = 10;

/// The gate is one for all.
static TURN: Mutex<()> = Mutex::const_new(());

async fn connect(url: &str) -> Messaging {
    let broker = RabbitMqBackend.connect(&url.parse().unwrap()).await.unwrap();
    Messaging::new(broker, MessagingOptions::default()).await.unwrap()
}

/// A topic of one partition, of which the publisher knows already.
async fn topic(messaging: &Messaging) -> String {
    let topic = format!("topic-{:08x}", fastrand::u32(..));
    let mut spec = TopicSpec::default();
    spec.partitions = 1;
    messaging.admin().ensure_topic(&topic, &spec).await.unwrap();
    let first = messaging.publish_messages(vec![message(&topic, 0)]).await;
    assert!(matches!(&first[..], [Outcome::Rejected(_)]), "{first:?}");
    topic
}

fn message(topic: &str, number: u64) -> Arc<Message> {
    Arc::new(Message::new(topic, number.to_string()).with_key(number.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_back_before_the_publisher_looks_is_rejected() {
    let _turn = TURN.lock().await;
    let (gate, Some(rabbitmq)) = (Gate::installed(), or_skip(RabbitMq::shared().await)) else { return };
    let messaging = connect(&rabbitmq.url()).await;
    let topic = topic(&messaging).await;
    gate.hold(Hold::Publishing);
    let outcomes = messaging.publish_messages((0..MESSAGES).map(|number| message(&topic, number)).collect()).await;
    let held = gate.held();
    gate.hold(Hold::Nobody);
    for outcome in outcomes {
        assert!(matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
    }
    assert!(held >= MESSAGES / 4, "only {held} answers were there at once: does the client trace other things?");
    messaging.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_before_the_publisher_looks_is_unknown() {
    let _turn = TURN.lock().await;
    let (gate, Some(rabbitmq)) = (Gate::installed(), or_skip(RabbitMq::shared().await)) else { return };
    let messaging = connect(&rabbitmq.url()).await;
    let topic = topic(&messaging).await;
    // A classic queue knows exactly when it is full.
    let own = lapin::Connection::connect(&rabbitmq.url(), lapin::ConnectionProperties::default()).await.unwrap();
    let (channel, room) = (own.create_channel().await.unwrap(), 10);
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(room));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let (queue, durable) = (format!("{topic}:full"), QueueDeclareOptions { durable: true, ..Default::default() });
    channel.queue_declare(queue.as_str().into(), durable, arguments).await.unwrap();
    let (exchange, durable) = (topic.as_str(), ExchangeDeclareOptions { durable: true, ..Default::default() });
    channel.exchange_declare(exchange.into(), ExchangeKind::Direct, durable, FieldTable::default()).await.unwrap();
    let (key, options) = ("0".into(), QueueBindOptions::default());
    channel.queue_bind(queue.as_str().into(), exchange.into(), key, options, FieldTable::default()).await.unwrap();
    gate.hold(Hold::Publishing);
    let outcomes = messaging.publish_messages((0..MESSAGES).map(|number| message(&topic, number)).collect()).await;
    let held = gate.held();
    gate.hold(Hold::Nobody);
    let confirmed = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Confirmed(_))).count();
    let unknown = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Unknown(_))).count();
    assert_eq!((confirmed, unknown), (room as usize, MESSAGES as usize - room as usize), "{outcomes:?}");
    assert!(held >= MESSAGES / 4, "only {held} answers were there at once: does the client trace other things?");
    messaging.close(SOON).await.unwrap();
}

/// The client completes the messages of one confirm one after the other, in no order, and gives the first of them the first
/// return: a message may be seen as confirmed while its own return is still to be given to another.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_back_is_rejected_also_while_a_confirm_of_many_is_half_read() {
    let _turn = TURN.lock().await;
    let (gate, Some(rabbitmq)) = (Gate::installed(), or_skip(RabbitMq::shared().await)) else { return };
    let way = Merging::start(rabbitmq.port()).await;
    let messaging = connect(&rabbitmq.url().replace(&rabbitmq.port().to_string(), &way.port.to_string())).await;
    let topic = topic(&messaging).await;
    let mut held = 0;
    for _ in 0..ROUNDS {
        gate.hold(Hold::Reading);
        way.merge(MANY);
        let outcomes = messaging.publish_messages((0..MANY).map(|number| message(&topic, number)).collect()).await;
        held += gate.held();
        gate.hold(Hold::Nobody);
        let stored = outcomes.iter().filter(|outcome| !matches!(outcome, Outcome::Rejected(_))).count();
        assert_eq!(stored, 0, "of {MANY} that came back were not rejected");
    }
    assert_eq!(held, ROUNDS as u64, "not every word was half read: does the client trace other things?");
    messaging.close(SOON).await.unwrap();
}
