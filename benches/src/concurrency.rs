//! Key-ordered concurrency: 10,000 messages of 0 to 5 ms of work on one partition, 100 slots, few keys to many.
//!
//! The makespan is measured in tokio's paused time, in whole milliseconds, against the best any schedule can do: the
//! larger of all work spread over the slots, and the heaviest key. The wall time is measured against the same work on
//! bare tokio tasks, one per key.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use messaging::{Delivery, Message, Messaging, MessagingOptions, Router};
use messaging_memory::MemoryBroker;
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use crate::report::{self, Row};

pub(crate) const MESSAGES: u64 = 10_000;
pub(crate) const SLOTS: usize = 100;
/// From few lanes, each with much work, to many.
pub(crate) const KEYS: [u64; 4] = [10, 20, 100, 1_000];
const TOPIC: &str = "work";

/// One message's work: its key, and how many milliseconds it takes.
pub(crate) type Work = Vec<(u64, u64)>;

pub(crate) fn work(keys: u64) -> Work {
    let mut random = fastrand::Rng::with_seed(7);
    (0..MESSAGES).map(|_| (random.u64(0..keys), random.u64(0..=5))).collect()
}

/// No schedule ends earlier.
pub(crate) fn ideal(work: &Work, keys: u64) -> Duration {
    let total: u64 = work.iter().map(|(_, millis)| millis).sum();
    let heaviest = (0..keys).map(|key| work.iter().filter(|(k, _)| *k == key).map(|(_, millis)| millis).sum()).max();
    Duration::from_millis(heaviest.unwrap_or(0u64).max(total.div_ceil(SLOTS as u64)))
}

/// Publishes everything, then runs it; answers the time from the start of the group to the last handled message.
async fn ours(work: &Work) -> anyhow::Result<Duration> {
    let bus = MemoryBroker::builder().partitions(1).build()?;
    let messaging = Messaging::new(Arc::new(bus), MessagingOptions::default()).await?;
    let (handled, done) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let router = || {
        let (handled, done) = (handled.clone(), done.clone());
        let handler = move |delivery: Delivery| {
            let (handled, done) = (handled.clone(), done.clone());
            async move {
                let millis = u64::from(delivery.message.payload[0]);
                if millis > 0 {
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                }
                if handled.fetch_add(1, Ordering::Relaxed) + 1 == MESSAGES {
                    done.notify_one();
                }
            }
        };
        Router::<()>::new("bench").concurrency(SLOTS).max_in_flight(MESSAGES as usize).on_message(TOPIC, handler)
    };
    drop(messaging.run([router()]).await?);
    for (key, millis) in work {
        let payload = Bytes::copy_from_slice(&[*millis as u8]);
        messaging.publish_raw(Message::new(TOPIC, payload).with_key(key.to_string())).await?;
    }
    let started = Instant::now();
    let running = messaging.run([router()]).await?;
    done.notified().await;
    let took = started.elapsed();
    running.shutdown(Duration::from_secs(10)).await?;
    Ok(took)
}

/// The same work on bare tasks: one per key, which takes a slot for each of its messages.
pub(crate) async fn bare<F: Future<Output = ()> + Send>(
    work: &Work,
    keys: u64,
    sleep: impl Fn(u64) -> F + Clone + Send + 'static,
) -> anyhow::Result<Duration> {
    let slots = Arc::new(Semaphore::new(SLOTS));
    let started = Instant::now();
    let tasks: Vec<_> = (0..keys)
        .map(|key| {
            let own: Vec<u64> = work.iter().filter(|(k, _)| *k == key).map(|(_, millis)| *millis).collect();
            let (slots, sleep) = (slots.clone(), sleep.clone());
            tokio::spawn(async move {
                for millis in own {
                    let slot = slots.acquire().await;
                    if millis > 0 {
                        sleep(millis).await;
                    }
                    drop(slot);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    Ok(started.elapsed())
}

/// Prints the table and the lines.
///
/// # Errors
/// If the bus fails, which it does not.
pub fn run() -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for keys in KEYS {
        let work = work(keys);
        let virtual_time = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let makespan = virtual_time.block_on(ours(&work))?;
        let mut walls = Vec::new();
        for _ in 0..3 {
            let real_time = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
            let ours = real_time.block_on(ours(&work))?;
            let sleep = |millis| tokio::time::sleep(Duration::from_millis(millis));
            let bare = real_time.block_on(bare(&work, keys, sleep))?;
            walls.push(ours.as_secs_f64() / bare.as_secs_f64());
        }
        walls.sort_by(f64::total_cmp);
        let makespan_ratio = makespan.as_secs_f64() / ideal(&work, keys).as_secs_f64();
        let figures = vec![
            ("makespan_ms", makespan.as_millis() as f64),
            ("makespan_ratio", makespan_ratio),
            ("wall_ratio", walls[1]),
        ];
        rows.push(Row { bench: format!("concurrency/keys-{keys}"), figures, bar: "≤ 1.05; ≤ 1.10".to_owned() });
    }
    report::print("Key-ordered concurrency: 10,000 messages of 0–5 ms, one partition, 100 slots", &rows);
    Ok(())
}
