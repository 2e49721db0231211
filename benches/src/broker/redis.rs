//! Redis: the raw side by the `redis` crate, pipelined: a stream per partition, entries with the same fields, acknowledged
//! together with the next read.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use async_trait::async_trait;
use futures::{StreamExt as _, stream::FuturesUnordered};
use messaging::{EventId, partition_for_key};
use messaging_redis::RedisBackend;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, Value, aio::MultiplexedConnection};
use test_brokers::Redis;

use super::{Contender, EVENT, Errand, Ours, SOURCE, connect, contest};
use crate::report;

const PARTITIONS: u32 = 4;
/// Entries that go to the server together, and how often at once; as ours does.
const TOGETHER: u64 = 500;
const CALLS: usize = 2;
/// Entries of all streams that one read asks for, as ours does.
const FETCH: usize = 1_000;
const BLOCK_MILLIS: u64 = 1_000;
const CLOSING: Duration = Duration::from_secs(30);
/// How long the server may take to make its append-only file small again.
const REWRITE: Duration = Duration::from_secs(60);

/// Starts a Redis, or takes the given one, and prints the figures.
///
/// # Errors
/// If there is no Redis, or a message did not arrive.
pub async fn run() -> anyhow::Result<()> {
    // The file is made small between rounds; not in the midst of one.
    let redis = Redis::options().args(["--auto-aof-rewrite-percentage", "0"]).start().await?;
    let ours = Ours { messaging: connect(&redis.url(), RedisBackend).await?, together: 500, outstanding: 32_000 };
    let raw = Raw { client: Client::open(redis.url())? };
    let rows = contest("redis", PARTITIONS, &ours, &raw).await?;
    let version = redis.version().unwrap_or("given");
    report::print(&format!("Redis {version}: ours against the raw `redis` client"), &rows);
    ours.messaging.close(CLOSING).await?;
    Ok(())
}

/// The `redis` crate without anything around it.
struct Raw {
    client: Client,
}

fn stream(errand: &Errand, partition: u32) -> String {
    format!("{{{}:{partition}}}", errand.topic)
}

fn streams(errand: &Errand) -> Vec<String> {
    (0..errand.partitions).map(|partition| stream(errand, partition)).collect()
}

impl Raw {
    async fn connection(&self) -> anyhow::Result<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(CLOSING));
        Ok(self.client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> anyhow::Result<T> {
        let mut conn = self.connection().await?;
        Ok(redis::cmd(command[0]).arg(&command[1..]).query_async(&mut conn).await?)
    }
}

fn add(errand: &Errand, streams: &[String], number: u64) -> Cmd {
    let parts = errand.parts(number);
    let id = match &parts.id {
        EventId::Uuid(uuid) => uuid.hyphenated().to_string(),
        EventId::Text(text) => text.to_string(),
    };
    let partition = partition_for_key(parts.key.as_bytes(), errand.partitions);
    let mut cmd = Cmd::with_capacity(20, parts.payload.len() + 400);
    cmd.arg("XADD").arg(&streams[partition as usize]).arg("*").arg("key").arg(&parts.key);
    cmd.arg("ce_specversion").arg("1.0").arg("ce_id").arg(&id).arg("ce_source").arg(SOURCE).arg("ce_type").arg(EVENT);
    cmd.arg("ce_time").arg(parts.time.to_string()).arg("content-type").arg("application/octet-stream");
    cmd.arg("data").arg(&parts.payload[..]);
    cmd
}

/// Notes an entry, if it is one of ours; answers its id.
fn take(errand: &Errand, entry: Value) -> Option<Vec<u8>> {
    let Value::Array(entry) = entry else { return None };
    let mut entry = entry.into_iter();
    let (Some(Value::BulkString(id)), Some(Value::Array(fields))) = (entry.next(), entry.next()) else { return None };
    let (mut payload, mut has_key, mut is_event) = (None, false, false);
    let mut fields = fields.into_iter();
    while let (Some(Value::BulkString(name)), Some(Value::BulkString(value))) = (fields.next(), fields.next()) {
        match name.as_slice() {
            b"key" => has_key = true,
            b"ce_type" => is_event = value == EVENT.as_bytes(),
            b"data" => payload = Some(value),
            _ => {}
        }
    }
    errand.arrivals.note(&payload.filter(|_| has_key && is_event)?);
    Some(id)
}

#[async_trait]
impl Contender for Raw {
    async fn subscribe(&self, errand: &Arc<Errand>) -> anyhow::Result<()> {
        for stream in streams(errand) {
            let _: String = self.ask(&["XGROUP", "CREATE", &stream, &errand.group, "0", "MKSTREAM"]).await?;
        }
        Ok(())
    }

    async fn publish(&self, errand: &Arc<Errand>) -> anyhow::Result<()> {
        let (conn, streams) = (self.connection().await?, streams(errand));
        let mut calls = FuturesUnordered::new();
        for first in (0..errand.messages).step_by(TOGETHER as usize) {
            let numbers = first..(first + TOGETHER).min(errand.messages);
            let mut pipe = Pipeline::with_capacity(TOGETHER as usize);
            numbers.for_each(|number| {
                pipe.add_command(add(errand, &streams, number));
            });
            let mut conn = conn.clone();
            calls.push(async move { conn.send_packed_commands(&pipe, 0, pipe.len()).await });
            if calls.len() >= CALLS {
                confirm(calls.next().await)?;
            }
        }
        while let Some(answers) = calls.next().await {
            confirm(Some(answers))?;
        }
        Ok(())
    }

    async fn consume(&self, errand: &Arc<Errand>) -> anyhow::Result<()> {
        let (mut conn, streams) = (self.connection().await?, streams(errand));
        let mut settled: Vec<(usize, Vec<Vec<u8>>)> = Vec::new();
        loop {
            let mut pipe = Pipeline::with_capacity(streams.len() + 1);
            for (stream, ids) in settled.drain(..) {
                pipe.cmd("XACK").arg(&streams[stream]).arg(errand.group.as_str()).arg(ids);
            }
            let is_last = errand.arrivals.is_complete();
            if !is_last {
                let read = pipe.cmd("XREADGROUP").arg("GROUP").arg(errand.group.as_str()).arg("raw");
                read.arg("COUNT").arg(FETCH / streams.len()).arg("BLOCK").arg(BLOCK_MILLIS);
                read.arg("STREAMS").arg(&streams).arg(vec![">"; streams.len()]);
            }
            let read = conn.send_packed_commands(&pipe, 0, pipe.len()).await?.pop();
            if is_last {
                return Ok(());
            }
            let Some(Value::Array(read)) = read else { bail!("the answer to a read is {read:?}") };
            for of_stream in read {
                let Value::Array(parts) = of_stream else { bail!("not understood: {of_stream:?}") };
                let mut parts = parts.into_iter();
                let (Some(Value::BulkString(name)), Some(Value::Array(entries))) = (parts.next(), parts.next()) else {
                    bail!("a stream without its entries");
                };
                let which = streams.iter().position(|stream| stream.as_bytes() == name).context("another stream")?;
                let count = entries.len();
                let ids: Vec<_> = entries.into_iter().filter_map(|entry| take(errand, entry)).collect();
                ensure!(ids.len() == count, "{} entries without key or type", count - ids.len());
                settled.push((which, ids));
            }
        }
    }

    async fn unsettled(&self, errand: &Arc<Errand>) -> anyhow::Result<u64> {
        let mut unsettled = 0;
        for stream in streams(errand) {
            let groups: Vec<HashMap<String, Value>> = self.ask(&["XINFO", "GROUPS", &stream]).await?;
            for group in groups {
                for field in ["pending", "lag"] {
                    let Some(Value::Int(count)) = group.get(field) else { bail!("no {field} of {stream}") };
                    unsettled += count.unsigned_abs();
                }
            }
        }
        Ok(unsettled)
    }

    async fn clean(&self, errand: &Arc<Errand>) -> anyhow::Result<()> {
        let streams = streams(errand);
        let names: Vec<&str> = std::iter::once("UNLINK").chain(streams.iter().map(String::as_str)).collect();
        let _: u64 = self.ask(&names).await?;
        let _: String = self.ask(&["BGREWRITEAOF"]).await?;
        let rewritten = async {
            loop {
                let info: String = self.ask(&["INFO", "persistence"]).await?;
                if info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0") {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(REWRITE, rewritten).await.context("the append-only file is not rewritten in time")?
    }
}

fn confirm(answers: Option<redis::RedisResult<Vec<Value>>>) -> anyhow::Result<()> {
    for answer in answers.context("nothing was sent")?? {
        ensure!(matches!(answer, Value::BulkString(_)), "not confirmed: {answer:?}");
    }
    Ok(())
}
