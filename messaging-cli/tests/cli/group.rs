//! Groups in the test's process, with handlers that fail as long as they are told to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use messaging::{
    Delivery, FailurePolicy, HandlerError, Messaging, MessagingConfig, Router, Running, configure_messaging,
};
use parking_lot::Mutex;

/// What a handler got, and whether it fails.
#[derive(Clone, Default)]
pub(crate) struct Handler {
    pub(crate) broken: Arc<AtomicBool>,
    got: Arc<Mutex<Vec<String>>>,
}

impl Handler {
    pub(crate) fn broken() -> Self {
        let handler = Self::default();
        handler.broken.store(true, Ordering::SeqCst);
        handler
    }

    /// The payloads that were handled well, in order.
    pub(crate) fn got(&self) -> Vec<String> {
        self.got.lock().clone()
    }

    /// Runs a group whose handler this is.
    pub(crate) async fn run(&self, messaging: &Messaging, group: &str, topic: &str) -> Running {
        let handler = self.clone();
        let router = Router::new(group).failure_policy(FailurePolicy::immediate().max_attempts(2));
        let handle = move |delivery: Delivery| {
            let handler = handler.clone();
            async move {
                if handler.broken.load(Ordering::SeqCst) {
                    return Err(HandlerError::transient("the mail server is away"));
                }
                handler.got.lock().push(String::from_utf8_lossy(&delivery.message.payload).into_owned());
                Ok(())
            }
        };
        messaging.run_one(router.on_message(topic, handle)).await.unwrap()
    }
}

pub(crate) async fn connect(url: &str) -> Messaging {
    let config = MessagingConfig::from_url(url).unwrap();
    configure_messaging(&config, messaging_backends::backends()).await.unwrap()
}

/// Waits until a group has settled everything of its topic and of its replays.
pub(crate) async fn drained(messaging: &Messaging, group: &str, topic: &str) {
    let admin = messaging.admin();
    let replays = messaging::replay_topic(topic, group);
    let lag = async |topic: &str| -> u64 {
        admin.progress(group, topic).await.unwrap().iter().map(|row| row.lag).sum::<u64>()
    };
    until("a group to settle everything", async || lag(topic).await + lag(&replays).await == 0).await;
}

/// Waits for something that is to become true.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(40), wait).await;
    waited.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

/// Publishes raw messages `0..count` with keys, each confirmed.
pub(crate) async fn publish(messaging: &Messaging, topic: &str, count: usize) {
    for number in 0..count {
        let message = messaging::Message::new(topic, number.to_string()).with_key(format!("k{}", number % 2));
        messaging.publish_raw(message.with_header("tenant", "a")).await.unwrap();
    }
}
