//! A broker, topics of a test's own, and a record of what handlers saw.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use messaging::{Delivery, HandlerError, Message, Messaging, MessagingConfig, Router, Running, configure_messaging};
use messaging_kafka::KafkaBackend;
use parking_lot::Mutex;
use test_brokers::Kafka;
use tokio::sync::watch;

/// What any single wait in these tests may take, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The Kafka that tests share which do no harm to it.
pub(crate) async fn kafka() -> &'static Kafka {
    log();
    Kafka::shared().await.unwrap()
}

/// Shows what `RUST_LOG` asks for.
pub(crate) fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // The first test of the process has done it for all.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// Connects to the shared Kafka.
pub(crate) async fn messaging() -> Messaging {
    connect(&kafka().await.url()).await
}

/// Connects to a broker at this URL.
pub(crate) async fn connect(url: &str) -> Messaging {
    configure_messaging(&MessagingConfig::from_url(url).unwrap(), vec![Box::new(KafkaBackend)]).await.unwrap()
}

/// A name that no other test has.
pub(crate) fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{:08x}", NEXT.fetch_add(1, Ordering::Relaxed), fastrand::u32(..))
}

/// A new topic with so many partitions.
pub(crate) async fn topic(messaging: &Messaging, partitions: u32) -> String {
    let name = unique("topic");
    let mut spec = messaging::TopicSpec::default();
    spec.partitions = partitions;
    messaging.admin().ensure_topic(&name, &spec).await.unwrap();
    name
}

/// A message whose payload is its number in its key's order.
pub(crate) fn numbered(topic: &str, key: &str, number: u32) -> Arc<Message> {
    Arc::new(Message::new(topic, number.to_string()).with_key(key.to_owned()))
}

/// Publishes `each` numbered messages of each of `keys` keys, the keys in turn.
pub(crate) async fn publish(messaging: &Messaging, topic: &str, keys: u32, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let messages = (0..keys).map(|key| numbered(topic, &format!("key-{key}"), number)).collect();
        for outcome in messaging.publish_messages(messages).await {
            outcome.confirmed().unwrap();
        }
    }
}

/// What handlers saw, of all instances of a group.
#[derive(Clone)]
pub(crate) struct Seen {
    state: Arc<Mutex<State>>,
    handled: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    running: HashMap<String, usize>,
    overlaps: usize,
    /// Key, number, epoch of each start, in their order.
    starts: Vec<(String, u32, u64)>,
    /// How often each message was handled.
    handled: BTreeMap<(String, u32), u32>,
    epochs: HashMap<u32, u64>,
    stale: usize,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), handled: watch::Sender::new(0) }
    }

    fn start(&self, delivery: &Delivery) -> Run {
        let key = String::from_utf8(delivery.message.key.as_deref().unwrap_or_default().to_vec()).unwrap();
        let number: u32 = std::str::from_utf8(&delivery.message.payload).unwrap().parse().unwrap();
        let mut state = self.state.lock();
        let running = state.running.entry(key.clone()).or_default();
        *running += 1;
        let overlaps = *running > 1;
        state.overlaps += usize::from(overlaps);
        let newest = state.epochs.entry(delivery.partition).or_default();
        let stale = delivery.epoch < *newest;
        *newest = delivery.epoch.max(*newest);
        state.stale += usize::from(stale);
        state.starts.push((key.clone(), number, delivery.epoch));
        Run { seen: self.clone(), key, number }
    }

    /// A group whose handlers note what they see and take as long as `takes` says.
    pub(crate) fn router<F, D>(&self, group: &str, topic: &str, takes: F) -> Router
    where
        F: Fn(u32) -> D + Clone + Send + Sync + 'static,
        D: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let seen = self.clone();
        Router::new(group.to_owned()).topic(topic.to_owned()).on_message(topic.to_owned(), move |delivery: Delivery| {
            let run = seen.start(&delivery);
            let taking = takes(run.number);
            async move {
                taking.await?;
                run.handled();
                Ok::<_, HandlerError>(())
            }
        })
    }

    /// A group whose handlers take no time.
    pub(crate) fn quick(&self, group: &str, topic: &str) -> Router {
        self.router(group, topic, |_| async { Ok(()) })
    }

    /// Waits until so many different messages were handled.
    pub(crate) async fn until(&self, count: usize) {
        let mut handled = self.handled.subscribe();
        if tokio::time::timeout(PATIENCE, handled.wait_for(|handled| *handled >= count)).await.is_err() {
            panic!("{} of {count} messages were handled in {PATIENCE:?}", self.distinct());
        }
    }

    pub(crate) fn distinct(&self) -> usize {
        self.state.lock().handled.len()
    }

    /// Handlings beyond the first of each message.
    pub(crate) fn repeats(&self) -> usize {
        self.state.lock().handled.values().map(|times| *times as usize - 1).sum()
    }

    pub(crate) fn starts(&self) -> Vec<(String, u32, u64)> {
        self.state.lock().starts.clone()
    }

    /// Each key's messages started first in their order and never overlapped; no epoch came back.
    #[track_caller]
    pub(crate) fn assert_in_order(&self) {
        let state = self.state.lock();
        assert_eq!((state.overlaps, state.stale), (0, 0), "(overlaps, starts under an old epoch)");
        let mut next: HashMap<&str, u32> = HashMap::new();
        for (key, number, _) in &state.starts {
            let next = next.entry(key).or_default();
            assert!(number <= next, "{key}: {number} started before {next}");
            *next = (*next).max(number + 1);
        }
    }
}

struct Run {
    seen: Seen,
    key: String,
    number: u32,
}

impl Run {
    fn handled(&self) {
        let mut state = self.seen.state.lock();
        *state.handled.entry((self.key.clone(), self.number)).or_default() += 1;
        let count = state.handled.len();
        drop(state);
        self.seen.handled.send_replace(count);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(running) = self.seen.state.lock().running.get_mut(&self.key) {
            *running -= 1;
        }
    }
}

/// Stops gracefully.
pub(crate) async fn stop(running: Running) {
    running.shutdown(Duration::from_secs(20)).await.unwrap();
}
