//! A group under test: what its handlers saw, and waiting for it.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use messaging::{
    Delivery, HandlerError, Message, Messaging, MessagingConfig, Outcome, Position, Router, configure_messaging,
};
use messaging_redis::RedisBackend;
use parking_lot::Mutex;

/// How long anything may take before a test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// What one handler saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) member: &'static str,
    pub(crate) key: String,
    pub(crate) value: u64,
    pub(crate) partition: u32,
    pub(crate) position: Position,
    pub(crate) epoch: u64,
    pub(crate) at: Instant,
}

/// What all handlers of a test saw, in the order of their starts.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Seen>>>);

impl Log {
    pub(crate) fn add(&self, member: &'static str, delivery: &Delivery) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.0.lock().push(Seen {
            member,
            key: delivery.message.key.as_deref().map(text).unwrap_or_default(),
            value: text(&delivery.message.payload).parse().unwrap_or(u64::MAX),
            partition: delivery.partition,
            position: delivery.position,
            epoch: delivery.epoch,
            at: Instant::now(),
        });
    }

    pub(crate) fn all(&self) -> Vec<Seen> {
        self.0.lock().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// The values that a key's handlers saw, in the order of their starts.
    pub(crate) fn of_key(&self, key: &str) -> Vec<u64> {
        self.0.lock().iter().filter(|seen| seen.key == key).map(|seen| seen.value).collect()
    }

    pub(crate) async fn until_len(&self, count: usize) {
        until(&format!("{count} deliveries"), || self.len() >= count).await;
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until what is asked for answers `true`.
pub(crate) async fn until_async<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < LIMIT, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn connect(url: &str, options: &str) -> Messaging {
    let config = MessagingConfig::from_url(&format!("{url}?{options}")).unwrap();
    configure_messaging(&config, vec![Box::new(RedisBackend)]).await.unwrap()
}

/// A router of group `g` on `topic` that logs every delivery, and then does what `after` does.
pub(crate) fn logging<F, Fut>(topic: &'static str, member: &'static str, log: &Log, after: F) -> Router
where
    F: Fn(Delivery) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    let log = log.clone();
    Router::new("g").on_message(topic, move |delivery: Delivery| {
        log.add(member, &delivery);
        after(delivery)
    })
}

pub(crate) fn ok(_: Delivery) -> std::future::Ready<Result<(), HandlerError>> {
    std::future::ready(Ok(()))
}

/// Publishes `values` one after the other with these keys in turn; all must be confirmed.
pub(crate) async fn publish(messaging: &Messaging, topic: &'static str, keys: &[&str], values: std::ops::Range<u64>) {
    let messages = values.map(|value| {
        let key = keys[value as usize % keys.len()].to_owned();
        Arc::new(Message::new(topic, value.to_string()).with_key(key))
    });
    for outcome in messaging.publish_messages(messages.collect()).await {
        assert!(matches!(outcome, Outcome::Confirmed(_)), "{outcome:?}");
    }
}

/// How many messages of `topic` group `g` has not settled.
pub(crate) async fn lag(messaging: &Messaging, topic: &str) -> u64 {
    messaging.admin().progress("g", topic).await.unwrap().iter().map(|row| row.lag).sum()
}
