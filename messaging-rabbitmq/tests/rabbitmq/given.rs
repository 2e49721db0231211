//! What the tests stand on: a broker, names of their own, members that record what they handle.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use messaging::{Backend as _, Delivery, Message, Messaging, MessagingOptions, Router, Running, TopicSpec};
use messaging_rabbitmq::RabbitMqBackend;
use parking_lot::Mutex;
use test_brokers::{RabbitMq, or_skip};
use tokio::sync::Notify;

/// How long anything may take that should happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The broker that tests share which do not harm it.
pub(crate) async fn shared() -> Option<&'static RabbitMq> {
    show_logs();
    or_skip(RabbitMq::shared().await)
}

/// Shows what is logged, as far as `RUST_LOG` says.
pub(crate) fn show_logs() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // Another test of this process may have been first.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// A name that no other test has.
pub(crate) fn name(what: &str) -> String {
    format!("{what}-{:08x}", fastrand::u32(..))
}

/// A connection to publish to and run groups on.
pub(crate) async fn connect(url: &str) -> Messaging {
    let address = url.parse().unwrap();
    let broker = RabbitMqBackend.connect(&address).await.unwrap();
    Messaging::new(broker, MessagingOptions::default()).await.unwrap()
}

/// A topic with so many partitions.
pub(crate) async fn topic(messaging: &Messaging, partitions: u32) -> String {
    let topic = name("topic");
    let mut spec = TopicSpec::default();
    spec.partitions = partitions;
    messaging.admin().ensure_topic(&topic, &spec).await.unwrap();
    topic
}

/// One handled message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) member: &'static str,
    pub(crate) key: String,
    pub(crate) text: String,
    pub(crate) partition: u32,
    pub(crate) epoch: u64,
}

/// What members have handled, in the order of their starts.
#[derive(Clone, Default)]
pub(crate) struct Diary {
    seen: Arc<(Mutex<Vec<Seen>>, Notify)>,
}

impl Diary {
    pub(crate) fn write(&self, member: &'static str, delivery: &Delivery) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let message = &delivery.message;
        let seen = Seen {
            member,
            key: message.key.as_ref().map(|key| text(key)).unwrap_or_default(),
            text: text(&message.payload),
            partition: delivery.partition,
            epoch: delivery.epoch,
        };
        self.seen.0.lock().push(seen);
        self.seen.1.notify_waiters();
    }

    pub(crate) fn all(&self) -> Vec<Seen> {
        self.seen.0.lock().clone()
    }

    /// Waits until what was seen is as wanted.
    pub(crate) async fn until(&self, what: &str, limit: Duration, wanted: impl Fn(&[Seen]) -> bool) {
        let deadline = Instant::now() + limit;
        loop {
            let mut changed = std::pin::pin!(self.seen.1.notified());
            changed.as_mut().enable();
            if wanted(&self.seen.0.lock()) {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if tokio::time::timeout(left, changed).await.is_err() {
                let seen = self.all();
                let last: Vec<_> = seen.iter().rev().take(5).collect();
                panic!("not within {limit:?}: {what}; {} seen, the last of them {last:?}", seen.len());
            }
        }
    }

    /// Checks that first handlings of each key came in the order of its numbers.
    pub(crate) fn assert_in_order(&self) {
        let mut last: std::collections::HashMap<String, u64> = std::collections::HashMap::new();
        let mut first = std::collections::HashSet::new();
        for seen in self.all() {
            let Ok(number) = seen.text.parse::<u64>() else { continue };
            if first.insert((seen.key.clone(), number)) {
                let before = last.insert(seen.key.clone(), number);
                assert!(before.is_none_or(|before| before < number), "{seen:?} after {before:?}");
            }
        }
    }

    /// A router of a group that records everything of a topic.
    pub(crate) fn router(&self, member: &'static str, group: &str, topic: &str) -> Router {
        let diary = self.clone();
        Router::new(group).on_message(topic, move |delivery: Delivery| {
            diary.write(member, &delivery);
            async {}
        })
    }
}

/// Runs a member that records everything of a topic.
pub(crate) async fn member(
    messaging: &Messaging,
    diary: &Diary,
    name: &'static str,
    group: &str,
    topic: &str,
) -> Running {
    messaging.run_one(diary.router(name, group, topic)).await.unwrap()
}

/// A message of a key with a number.
pub(crate) fn numbered(topic: &str, key: &str, number: u64) -> Arc<Message> {
    Arc::new(Message::new(topic, number.to_string()).with_key(key.to_owned()))
}
