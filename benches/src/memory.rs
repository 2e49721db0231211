//! Instructions and allocations per message on the in-process bus.
//!
//! Steady state, no subscriber and no recorder installed. For consuming, everything is published before the measured
//! region; it ends when the last message has been handled and settled.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use messaging::{Event, EventData, EventKey, Message, Messaging, MessagingOptions, Name, Router};
use messaging_memory::MemoryBroker;
use serde::{Deserialize, Serialize};
use tokio::{runtime::Runtime, sync::Notify};

use crate::{
    callgrind,
    report::{self, Row},
};

const TOPIC: &str = "items";
const KEYS: u64 = 1_000;

#[derive(Serialize, Deserialize)]
struct Item {
    id: u64,
    quantity: u32,
}

impl EventData for Item {
    const NAME: &'static str = "items.counted";
    const TOPIC: &'static str = TOPIC;
    fn write_key(&self, _: &mut bytes::BytesMut) -> bool {
        false
    }
}

/// The same with a key.
#[derive(Serialize, Deserialize)]
struct KeyedItem {
    id: u64,
    quantity: u32,
}

impl EventData for KeyedItem {
    const NAME: &'static str = "items.counted";
    const TOPIC: &'static str = TOPIC;
    fn write_key(&self, key: &mut bytes::BytesMut) -> bool {
        (self.id % KEYS).write_key(key);
        true
    }
}

/// Counts handled messages; rings at the target.
struct Counter {
    handled: AtomicU64,
    target: u64,
    done: Notify,
}

impl Counter {
    fn count(&self) {
        if self.handled.fetch_add(1, Ordering::Relaxed) + 1 == self.target {
            self.done.notify_one();
        }
    }
}

/// Runs the measured region, and may look at what it does.
pub type Measure<'a> = &'a dyn Fn(&mut dyn FnMut());

/// One thing to measure.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    name: &'static str,
    bar: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    ConsumeRaw,
    ConsumeJson,
    ConsumeKeyed,
    PublishJson,
    PublishKeyed,
}

const REGIONS: [Region; 5] = [
    Region { name: "memory/raw/sequential", bar: "≤ 700, 0", kind: Kind::ConsumeRaw },
    Region { name: "memory/json/sequential", bar: "≤ 1650, 0", kind: Kind::ConsumeJson },
    Region { name: "memory/json/keyed-4", bar: "≤ 2200, 0", kind: Kind::ConsumeKeyed },
    Region { name: "memory/json/publish", bar: "≤ 900, ≤ 1", kind: Kind::PublishJson },
    Region { name: "memory/json/publish-keyed", bar: "–", kind: Kind::PublishKeyed },
];

impl Region {
    /// The region of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        let region = REGIONS.into_iter().find(|region| region.name == name);
        region.ok_or_else(|| anyhow::anyhow!("no region is called {name:?}"))
    }

    /// Prepares, then has `measure` run the measured region once.
    ///
    /// # Errors
    /// If the bus fails, which it does not.
    pub fn run(self, messages: u64, measure: Measure<'_>) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        match self.kind {
            Kind::PublishJson => {
                publish(&runtime, messages, measure, |id| Item { id: 1_000_000 + id % KEYS, quantity: 37 })
            }
            Kind::PublishKeyed => {
                publish(&runtime, messages, measure, |id| KeyedItem { id: 1_000_000 + id % KEYS, quantity: 37 })
            }
            _ => self.consume(&runtime, messages, measure),
        }
    }

    fn consume(self, runtime: &Runtime, messages: u64, measure: Measure<'_>) -> anyhow::Result<()> {
        let counter = Arc::new(Counter { handled: AtomicU64::new(0), target: messages, done: Notify::new() });
        let messaging = runtime.block_on(async {
            let messaging = connect().await?;
            // The group exists before the messages, so that none of them is trimmed.
            drop(messaging.run([self.router(counter.clone())]).await?);
            for id in 0..messages {
                self.publish_one(&messaging, id).await?;
            }
            anyhow::Ok(messaging)
        })?;
        run_region(runtime, measure, async {
            let running = messaging.run([self.router(counter.clone())]).await?;
            counter.done.notified().await;
            running.shutdown(Duration::from_secs(10)).await?;
            anyhow::Ok(())
        })
    }

    async fn publish_one(self, messaging: &Messaging, id: u64) -> anyhow::Result<()> {
        match self.kind {
            Kind::ConsumeRaw => {
                let payload = Bytes::from_static(br#"{"id":1000000,"quantity":37}"#);
                messaging.publish_raw(Message::new(Name::from_static(TOPIC), payload)).await?
            }
            Kind::ConsumeKeyed => messaging.publish(&KeyedItem { id: 1_000_000 + id % KEYS, quantity: 37 }).await?,
            _ => messaging.publish(&Item { id: 1_000_000, quantity: 37 }).await?,
        };
        Ok(())
    }

    fn router(self, counter: Arc<Counter>) -> Router {
        let router = Router::new("bench").topic(TOPIC);
        match self.kind {
            Kind::ConsumeRaw => router.concurrency(1).on_message(TOPIC, move |payload: Bytes| {
                std::hint::black_box(payload.len());
                counter.count();
                std::future::ready(())
            }),
            Kind::ConsumeKeyed => {
                let handler = move |event: Event<KeyedItem>| {
                    let counter = counter.clone();
                    async move {
                        yield_once().await;
                        std::hint::black_box(event.data.quantity);
                        counter.count();
                    }
                };
                router.concurrency(4).on_event("items.counted", handler)
            }
            _ => router.concurrency(1).on_event("items.counted", move |event: Event<Item>| {
                std::hint::black_box(event.data.id + u64::from(event.data.quantity));
                counter.count();
                std::future::ready(())
            }),
        }
    }
}

/// Gives way once and is ready again at once. (`tokio::task::yield_now` would measure the runtime's parking too.)
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn connect() -> anyhow::Result<Messaging> {
    Ok(Messaging::new(Arc::new(MemoryBroker::new()), MessagingOptions::default()).await?)
}

fn publish<T: EventData>(
    runtime: &Runtime,
    messages: u64,
    measure: Measure<'_>,
    event: impl Fn(u64) -> T,
) -> anyhow::Result<()> {
    let messaging = runtime.block_on(async {
        let messaging = connect().await?;
        // Steady state: buffers have grown, and the log is as long as its retention allows.
        for id in 0..400_000 {
            messaging.publish(&event(id)).await?;
        }
        anyhow::Ok(messaging)
    })?;
    run_region(runtime, measure, async {
        for id in 0..messages {
            messaging.publish(&event(id)).await?;
        }
        anyhow::Ok(())
    })
}

fn run_region(
    runtime: &Runtime,
    measure: Measure<'_>,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let (mut work, mut result) = (Some(work), Ok(()));
    measure(&mut || {
        callgrind::measured_region(&mut || {
            if let Some(work) = work.take() {
                result = runtime.block_on(work);
            }
        });
    });
    result
}

/// Allocations of a region with so many messages, counted by a program of its own.
fn allocations(program: &str, region: &str, messages: u64) -> anyhow::Result<f64> {
    let program = std::env::current_exe()?.with_file_name(program);
    let output = Command::new(program).args([region, &messages.to_string()]).output()?;
    anyhow::ensure!(
        output.status.success(),
        "counting allocations failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Prints the table and the lines.
///
/// # Errors
/// If a region cannot be run or valgrind is missing.
pub fn run() -> anyhow::Result<()> {
    measured("In-process bus, per message", "allocations", REGIONS.map(|region| (region.name, region.bar)))
}

/// Measures regions of the program that calls this, each with the bar that it is held against. This program runs one of them
/// for `--region NAME MESSAGES`; the one of the other name beside it prints the allocations of one.
///
/// # Errors
/// If a region cannot be run or valgrind is missing.
pub fn measured(
    title: &str,
    counts_allocations: &str,
    regions: impl IntoIterator<Item = (&'static str, &'static str)>,
) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for (region, bar) in regions {
        let [few, many] = [20_000, 60_000].map(|messages| allocations(counts_allocations, region, messages));
        let figures = vec![
            ("instructions_per_message", callgrind::per_message(region)?),
            ("allocations_per_message", (many? - few?) / 40_000.0),
        ];
        rows.push(Row { bench: region.to_owned(), figures, bar: bar.to_owned() });
    }
    report::print(title, &rows);
    Ok(())
}
