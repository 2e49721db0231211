//! RustStream on its in-process broker, with the same payload, handlers and measured regions as our own bus: a service that
//! runs, a queue that is full before the region begins and empty when it ends.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use anyhow::{Context as _, bail, ensure};
use benches::callgrind::measured_region;
use benches::memory::Measure;
use ruststream::OutgoingMessage;
use ruststream::memory::prelude::*;
use ruststream::memory::{MemoryPublisher, PARTITION_KEY_HEADER};
use ruststream::runtime::{BrokerScope, Identity};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// What can be measured.
pub const REGIONS: [&str; 5] = [
    "ruststream/raw/sequential",
    "ruststream/json/sequential",
    "ruststream/json/keyed-4",
    "ruststream/json/publish",
    "ruststream/json/publish-keyed",
];

const PAYLOAD: &[u8] = br#"{"id":1000000,"quantity":37}"#;
const KEYS: u64 = 1_000;

#[derive(Debug, Serialize, Deserialize, Outgoing)]
#[outgoing(name = "items")]
struct Item {
    id: u64,
    quantity: u32,
}

#[derive(Deserialized)]
struct Bytes<'a>(&'a [u8]);

#[subscriber("items")]
async fn raw(bytes: &Bytes<'_>, ctx: &mut Context<'_, (), Counter>) -> HandlerOutcome {
    black_box(bytes.0.len());
    ctx.state().count();
    HandlerOutcome::ack()
}

#[subscriber("items")]
async fn json(item: &Item, ctx: &mut Context<'_, (), Counter>) -> HandlerOutcome {
    black_box(item.id + u64::from(item.quantity));
    ctx.state().count();
    HandlerOutcome::ack()
}

#[subscriber("items", workers(4, by_key))]
async fn keyed(item: &Item, ctx: &mut Context<'_, (), Counter>) -> HandlerOutcome {
    yield_once().await;
    black_box(item.quantity);
    ctx.state().count();
    HandlerOutcome::ack()
}

/// Gives way once and is ready again at once.
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

/// Counts handled messages; rings at the last.
#[derive(Clone, Debug)]
struct Counter(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    left: AtomicU64,
    done: Notify,
}

impl Counter {
    fn of(messages: u64) -> Self {
        Self(Arc::new(Counts { left: AtomicU64::new(messages), done: Notify::new() }))
    }

    fn count(&self) {
        if self.0.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.done.notify_one();
        }
    }
}

type Mount<'a> = &'a mut BrokerScope<MemoryBroker, Identity, (), Counter>;

/// Prepares a region, then has `measure` run it once.
///
/// # Errors
/// If there is no such region, or the service does not start.
pub fn run(region: &str, messages: u64, measure: Measure<'_>) -> anyhow::Result<()> {
    match region.strip_prefix("ruststream/").context("no such region")? {
        "raw/sequential" => consume(messages, measure, false, |scope| drop(scope.include(raw))),
        "json/sequential" => consume(messages, measure, false, |scope| drop(scope.include(json))),
        "json/keyed-4" => consume(messages, measure, true, |scope| drop(scope.include(keyed))),
        "json/publish" => publish(messages, measure, false),
        "json/publish-keyed" => publish(messages, measure, true),
        other => bail!("no region is called {other:?}"),
    }
}

fn consume(messages: u64, measure: Measure<'_>, with_keys: bool, mount: impl FnOnce(Mount<'_>)) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (counter, broker) = (Counter::of(messages), MemoryBroker::new());
    let state = counter.clone();
    let app = RustStream::new(AppInfo::new("bench", "0.0.0"))
        .on_startup(async move |()| Ok::<_, Infallible>(state))
        .with_broker(broker.clone(), mount);
    let running = runtime.block_on(app.start())?;
    let publisher = broker.publisher();
    runtime.block_on(async {
        for id in 0..messages {
            let headers = if with_keys { with_key(id) } else { HeaderMap::new() };
            publisher.publish(OutgoingMessage::new("items", PAYLOAD).with_headers(headers), None).await?;
        }
        anyhow::Ok(())
    })?;
    let left = counter.0.left.load(Ordering::Relaxed);
    ensure!(left == messages, "{} messages were handled before the measured region", messages - left);
    region(&runtime, measure, async {
        counter.0.done.notified().await;
        Ok(())
    })?;
    ensure!(counter.0.left.load(Ordering::Relaxed) == 0, "some messages were not handled");
    drop(running);
    Ok(())
}

/// To a service that is not reading just now, as ours are to a log.
fn publish(messages: u64, measure: Measure<'_>, with_keys: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (counter, broker) = (Counter::of(u64::MAX), MemoryBroker::new());
    let app = RustStream::new(AppInfo::new("bench", "0.0.0"))
        .on_startup(async move |()| Ok::<_, Infallible>(counter))
        .with_broker(broker.clone(), |scope| drop(scope.include(json)));
    let running = runtime.block_on(app.start())?;
    let publisher = broker.publisher();
    region(&runtime, measure, async {
        for id in 0..messages {
            publish_one(&publisher, id, with_keys).await?;
        }
        Ok(())
    })?;
    drop(running);
    Ok(())
}

async fn publish_one(publisher: &MemoryPublisher, id: u64, with_keys: bool) -> anyhow::Result<()> {
    let item = Item { id: 1_000_000 + id % KEYS, quantity: 37 };
    let message = publisher.message(&item);
    if with_keys {
        message.with_headers(with_key(id)).publish().await?
    } else {
        message.publish().await?
    };
    Ok(())
}

fn with_key(id: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(PARTITION_KEY_HEADER, (id % KEYS).to_string());
    headers
}

fn region(
    runtime: &Runtime,
    measure: Measure<'_>,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let (mut work, mut result) = (Some(work), Ok(()));
    measure(&mut || {
        measured_region(&mut || {
            if let Some(work) = work.take() {
                result = runtime.block_on(work);
            }
        });
    });
    result
}
