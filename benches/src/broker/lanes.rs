//! Key-ordered concurrency on a broker: the work of [`concurrency`](crate::concurrency), from one partition.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use messaging::{Delivery, Message, Messaging, Router, TopicSpec};
use tokio::sync::Notify;

use crate::{
    concurrency::{KEYS, MESSAGES, SLOTS, Work, bare, ideal, work},
    report::Row,
};

/// Each figure is the median of so many rounds.
const ROUNDS: usize = 3;
const LIMIT: Duration = Duration::from_secs(60);

/// What the handlers of one round have done.
#[derive(Default)]
struct Done {
    handled: AtomicU64,
    first: OnceLock<Instant>,
    last: OnceLock<Instant>,
    all: Notify,
}

fn router(topic: &str, done: &Arc<Done>) -> Router {
    let done = done.clone();
    let handler = move |delivery: Delivery| {
        let done = done.clone();
        async move {
            done.first.get_or_init(Instant::now);
            let millis = delivery.message.payload.first().copied().unwrap_or_default();
            if millis > 0 {
                tokio::time::sleep(Duration::from_millis(millis.into())).await;
            }
            if done.handled.fetch_add(1, Ordering::Relaxed) + 1 == MESSAGES {
                done.last.get_or_init(Instant::now);
                done.all.notify_one();
            }
        }
    };
    let router = Router::new(format!("{topic}-group").as_str());
    router.concurrency(SLOTS).max_in_flight(MESSAGES as usize).on_message(topic, handler)
}

/// Publishes everything, then runs it; answers the time from the first handler's start to the last one's end.
async fn ours(messaging: &Messaging, topic: &str, work: &Work) -> anyhow::Result<Duration> {
    let mut spec = TopicSpec::default();
    spec.partitions = 1;
    messaging.admin().ensure_topic(topic, &spec).await?;
    let done = Arc::new(Done::default());
    messaging.run([router(topic, &done)]).await?.shutdown(LIMIT).await?;
    for some in work.chunks(500) {
        let message =
            |(key, millis): &(u64, u64)| Arc::new(Message::new(topic, vec![*millis as u8]).with_key(key.to_string()));
        for outcome in messaging.publish_messages(some.iter().map(message).collect()).await {
            outcome.confirmed()?;
        }
    }
    let running = messaging.run([router(topic, &done)]).await?;
    tokio::time::timeout(LIMIT, done.all.notified()).await.context("not everything was handled")?;
    running.shutdown(LIMIT).await?;
    let handled = done.handled.load(Ordering::Relaxed);
    ensure!(handled == MESSAGES, "{handled} of {MESSAGES} messages were handled");
    done.first.get().zip(done.last.get()).map(|(first, last)| *last - *first).context("nothing was handled")
}

/// A row for each number of keys: the makespan against the best that any schedule can do, and against the same work on
/// bare tasks, one per key, which have tokio's timers to bear too.
pub(crate) async fn lanes(broker: &str, messaging: &Messaging) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for keys in KEYS {
        let work = work(keys);
        let ideal = ideal(&work, keys).as_secs_f64();
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let topic = format!("{broker}-lanes-{keys}-{:08x}", fastrand::u32(..));
            let ours = ours(messaging, &topic, &work).await?.as_secs_f64();
            rounds.push((ours, ours / bare(&work, keys).await?.as_secs_f64()));
        }
        let median = |figure: fn(&(f64, f64)) -> f64| {
            let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures[ROUNDS / 2]
        };
        let makespan = median(|round| round.0);
        let figures = vec![
            ("makespan_ms", makespan * 1e3),
            ("makespan_ratio", makespan / ideal),
            ("wall_ratio", median(|round| round.1)),
        ];
        let bar = "wall ≤ 1.10".to_owned();
        rows.push(Row { bench: format!("{broker}/concurrency/keys-{keys}"), figures, bar });
    }
    Ok(rows)
}
