//! Key-ordered concurrency on a broker: the work of [`concurrency`](crate::concurrency), from one partition.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use async_io::Timer;
use futures::future::BoxFuture;
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

/// To a tenth of a millisecond: tokio's timers count whole ones and round up, which would be a third of the work.
async fn sleep(millis: u64) {
    Timer::after(Duration::from_millis(millis)).await;
}

fn router(topic: &str, done: &Arc<Done>) -> Router {
    let done = done.clone();
    let handler = move |delivery: Delivery| {
        let done = done.clone();
        async move {
            done.first.get_or_init(Instant::now);
            let millis = delivery.message.payload.first().copied().unwrap_or_default();
            if millis > 0 {
                sleep(millis.into()).await;
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

/// Another library that does the same work, from the topics of these names: its milliseconds for each.
pub(crate) type Peer<'a> = &'a (dyn Fn(Vec<String>) -> BoxFuture<'a, anyhow::Result<Vec<f64>>> + Sync);

/// A row for each number of keys: the makespan against the best that any schedule can do, against the same work on bare
/// tasks, one per key, and against a peer. A peer that cannot be had is named, and left out.
pub(crate) async fn lanes(
    broker: &str,
    messaging: &Messaging,
    (peer_name, peer): (&'static str, Peer<'_>),
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for keys in KEYS {
        let work = work(keys);
        let ideal = ideal(&work, keys).as_secs_f64();
        let (mut rounds, mut topics) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let topic = format!("{broker}-lanes-{keys}-{:08x}", fastrand::u32(..));
            let ours = ours(messaging, &topic, &work).await?.as_secs_f64();
            rounds.push((ours, ours / bare(&work, keys, sleep).await?.as_secs_f64()));
            topics.push(topic);
        }
        let makespan = median(rounds.iter().map(|round| round.0));
        let mut figures = vec![
            ("makespan_ms", makespan * 1e3),
            ("makespan_ratio", makespan / ideal),
            ("wall_ratio", median(rounds.iter().map(|round| round.1))),
        ];
        match peer(topics).await {
            Ok(millis) => figures.push((peer_name, median(millis.into_iter()))),
            Err(error) => eprintln!("{broker}: no {peer_name}: {error:#}"),
        }
        let bar = format!("wall ≤ 1.10, below {peer_name}");
        rows.push(Row { bench: format!("{broker}/concurrency/keys-{keys}"), figures, bar });
    }
    Ok(rows)
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
