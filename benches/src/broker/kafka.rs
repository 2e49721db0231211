//! Kafka: the raw side by librdkafka as `rdkafka` wraps it, with the settings that ours uses.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use async_trait::async_trait;
use futures::FutureExt as _;
use messaging::EventId;
use messaging_kafka::KafkaBackend;
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::KafkaError,
    message::{Header, Headers as _, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode as Code,
};
use test_brokers::Kafka;
use tokio::{process::Command, time::timeout};

use super::{Contender, EVENT, Errand, Ours, SOURCE, connect, contest, lanes::lanes};
use crate::{
    concurrency::{MESSAGES, SLOTS},
    report,
};

const PARTITIONS: u32 = 4;
/// A JVM that is to be fast rather than small.
const JVM: [&str; 2] = ["-Xms1g", "-Xmx1g"];
/// What a round has left goes at once, and the memory that held it is there for the next: a round that is given memory which
/// the machine has never used before is a third slower.
const DELETED_AFTER: (&str, &str) = ("log.segment.delete.delay.ms", "0");
/// How long a message may wait for company, in milliseconds: as librdkafka and the Java client have it unless told otherwise.
const LINGER_MS: u32 = 5;
/// How often what was consumed is committed, as often as ours does.
const COMMIT: Duration = Duration::from_millis(20);
const CLOSING: Duration = Duration::from_secs(30);
/// How long the other library may take, the first time with what Maven has to fetch.
const PEER_LIMIT: Duration = Duration::from_secs(300);

/// Starts a Kafka, or takes the given one, and prints the figures.
///
/// # Errors
/// If there is no Kafka, or a message did not arrive.
pub async fn run() -> anyhow::Result<()> {
    let kafka = Kafka::options().jvm(JVM).property(DELETED_AFTER.0, DELETED_AFTER.1).routes(0).start().await?;
    let url = format!("{}?linger={LINGER_MS}ms", kafka.url());
    // Few enough that they are in the processor's cache when the client copies them.
    let ours = Ours { messaging: connect(&url, KafkaBackend).await?, together: 100, outstanding: 32_000 };
    let raw = Raw { servers: kafka.authority() };
    let rows = contest("kafka", PARTITIONS, &ours, &raw).await?;
    let version = kafka.version().unwrap_or("given");
    report::print(&format!("Kafka {version}: ours against raw rdkafka"), &rows);
    let servers = kafka.authority();
    let peer = |topics| parallel_consumer(&servers, topics).boxed();
    let rows = lanes("kafka", &ours.messaging, ("parallel_consumer_ms", &peer)).await?;
    report::print("Kafka: 10,000 messages of 0–5 ms, one partition, 100 slots", &rows);
    ours.messaging.close(CLOSING).await?;
    Ok(())
}

/// Confluent's parallel-consumer on these topics, by Maven and a JDK. It comes with the Kafka client it was made for.
async fn parallel_consumer(servers: &str, topics: Vec<String>) -> anyhow::Result<Vec<f64>> {
    let arguments = format!("{servers} {MESSAGES} {SLOTS} {}", topics.join(" "));
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "-Dstyle.color=never", "compile", "exec:java", "-Dexec.mainClass=Lanes"]);
    maven.arg(format!("-Dexec.args={arguments}"));
    maven.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/parallel-consumer"));
    maven.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = timeout(PEER_LIMIT, maven.output()).await.context("mvn did not end in time")?.context("mvn")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "it ended with {}: {text}", output.status);
    // Maven colours its output, though there is none.
    let figure = |line: &str| line.split_once("millis=")?.1.trim().parse().ok();
    let millis: Vec<f64> = text.lines().filter_map(figure).collect();
    ensure!(millis.len() == topics.len(), "{} figures for {} topics: {text}", millis.len(), topics.len());
    Ok(millis)
}

/// `rdkafka` without anything around it.
struct Raw {
    servers: String,
}

/// Counts delivery reports.
#[derive(Default)]
struct Reports {
    confirmed: AtomicU64,
    failed: AtomicU64,
}

struct Counting(Arc<Reports>);

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.0.confirmed } else { &self.0.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Raw {
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers).set("socket.nagle.disable", "true");
        config
    }

    fn admin(&self) -> anyhow::Result<AdminClient<DefaultClientContext>> {
        Ok(self.client().create()?)
    }

    fn publish_all(&self, errand: &Errand, stop: &AtomicBool) -> anyhow::Result<()> {
        let reports = Arc::new(Reports::default());
        let producer: ThreadedProducer<Counting> = self
            .client()
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", LINGER_MS.to_string())
            .set("partitioner", "murmur2_random")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.messages", "200000")
            .set("queue.buffering.max.kbytes", "262144")
            .create_with_context(Counting(reports.clone()))?;
        for number in 0..errand.messages {
            let parts = errand.parts(number);
            let id = match &parts.id {
                EventId::Uuid(uuid) => uuid.hyphenated().to_string(),
                EventId::Text(text) => text.to_string(),
            };
            let time = parts.time.to_string();
            let headers = OwnedHeaders::new_with_capacity(6)
                .insert(Header { key: "ce_specversion", value: Some("1.0") })
                .insert(Header { key: "ce_id", value: Some(&id) })
                .insert(Header { key: "ce_source", value: Some(SOURCE) })
                .insert(Header { key: "ce_type", value: Some(EVENT) })
                .insert(Header { key: "ce_time", value: Some(&time) })
                .insert(Header { key: "content-type", value: Some("application/octet-stream") });
            let record = BaseRecord::<str, [u8]>::to(&errand.topic).key(&parts.key).payload(&parts.payload);
            let mut record = record.headers(headers);
            while let Err((error, refused)) = producer.send(record) {
                if error.rdkafka_error_code() != Some(Code::QueueFull) {
                    bail!(error);
                }
                // The queue of a broker that has died stays full.
                ensure!(!stop.load(Ordering::Relaxed), "the queue stays full");
                std::thread::sleep(Duration::from_millis(1));
                record = refused;
            }
        }
        producer.flush(CLOSING)?;
        // The last reports are counted by the producer's own thread.
        let deadline = Instant::now() + CLOSING;
        let (confirmed, failed) = loop {
            let counts = (reports.confirmed.load(Ordering::Relaxed), reports.failed.load(Ordering::Relaxed));
            if counts.0 + counts.1 >= errand.messages || Instant::now() >= deadline {
                break counts;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        ensure!(confirmed == errand.messages, "{confirmed} of {} confirmed, {failed} failed", errand.messages);
        Ok(())
    }

    fn consumer(&self, errand: &Errand) -> anyhow::Result<BaseConsumer> {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", errand.group.as_str())
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "250")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("fetch.queue.backoff.ms", "1")
            .set("fetch.wait.max.ms", "100")
            .set("queued.max.messages.kbytes", "16384")
            .create()?;
        Ok(consumer)
    }

    fn consume_all(&self, errand: &Errand, stop: &AtomicBool) -> anyhow::Result<()> {
        let consumer = self.consumer(errand)?;
        consumer.subscribe(&[&errand.topic])?;
        let mut next = vec![0; errand.partitions as usize];
        let (mut committed, mut unknown, mut turn) = (Instant::now(), 0u64, 0u32);
        while !errand.arrivals.is_complete() && !stop.load(Ordering::Relaxed) {
            turn = turn.wrapping_add(1);
            let polled = consumer.poll(Duration::from_millis(10));
            // The clock is looked at now and then: it costs more than a message.
            if (polled.is_none() || turn % 256 == 0) && committed.elapsed() >= COMMIT {
                consumer.commit(&offsets(errand, &next)?, CommitMode::Async)?;
                committed = Instant::now();
            }
            if let Some(message) = polled {
                // Owned, as a handler that waits for something needs it.
                let message = message?.detach();
                let is_ours = message.headers().is_some_and(|headers| {
                    headers.iter().any(|h| h.key == "ce_type" && h.value == Some(EVENT.as_bytes()))
                });
                if !is_ours || message.key().is_none() {
                    unknown += 1;
                    continue;
                }
                errand.arrivals.note(message.payload().unwrap_or_default());
                next[message.partition().unsigned_abs() as usize] = message.offset() + 1;
            }
        }
        consumer.commit(&offsets(errand, &next)?, CommitMode::Sync)?;
        ensure!(unknown == 0, "{unknown} messages without key or type");
        Ok(())
    }
}

/// What to commit: the next offset of every partition.
fn offsets(errand: &Errand, next: &[i64]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(next.len());
    for (partition, next) in (0..).zip(next) {
        list.add_partition_offset(&errand.topic, partition, Offset::Offset(*next))?;
    }
    Ok(list)
}

/// Ends a blocking loop when the future that waits for it is dropped.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Raw {
    /// Runs a blocking part on a thread for such.
    async fn blocking<T: Send + 'static>(
        &self,
        errand: &Arc<Errand>,
        work: impl FnOnce(&Self, &Errand, &AtomicBool) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (raw, errand, stop) = (Self { servers: self.servers.clone() }, errand.clone(), Arc::default());
        let _stop = StopOnDrop(Arc::clone(&stop));
        tokio::task::spawn_blocking(move || work(&raw, &errand, &stop)).await?
    }
}

#[async_trait]
impl Contender for Raw {
    async fn subscribe(&self, errand: &Arc<Errand>) -> anyhow::Result<()> {
        let topic = NewTopic::new(&errand.topic, i32::try_from(errand.partitions)?, TopicReplication::Fixed(-1));
        for made in self.admin()?.create_topics([&topic], &AdminOptions::new()).await? {
            made.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
        }
        Ok(())
    }

    async fn publish(&self, errand: &Arc<Errand>) -> anyhow::Result<()> {
        self.blocking(errand, Self::publish_all).await
    }

    async fn consume(&self, errand: &Arc<Errand>) -> anyhow::Result<()> {
        self.blocking(errand, Self::consume_all).await
    }

    async fn unsettled(&self, errand: &Arc<Errand>) -> anyhow::Result<u64> {
        self.blocking(errand, |raw, errand, _| {
            let mut list = TopicPartitionList::new();
            list.add_partition_range(&errand.topic, 0, i32::try_from(errand.partitions)? - 1);
            let committed = raw.consumer(errand)?.committed_offsets(list, CLOSING)?;
            let settled: i64 = committed.elements().iter().filter_map(|element| element.offset().to_raw()).sum();
            Ok(errand.messages.saturating_sub(settled.unsigned_abs()))
        })
        .await
    }

    async fn clean(&self, errand: &Arc<Errand>) -> anyhow::Result<()> {
        self.admin()?.delete_topics(&[&errand.topic], &AdminOptions::new()).await?;
        Ok(())
    }
}
