//! A long backlog costs a consumer no memory: what is read ahead is bounded, whatever waits in the streams.
//!
//! In a program of its own, as it looks at the memory of its process. `MESSAGING_BACKLOG` says how many messages wait.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use messaging::{Delivery, Message, Messaging, MessagingConfig, Router, configure_messaging};
use messaging_redis::RedisBackend;
use test_brokers::Redis;
use tokio::sync::Semaphore;

const MESSAGES: u64 = 300_000;
const TOGETHER: u64 = 5_000;
const IN_FLIGHT: usize = 1_000;
/// What one read brings at most by default.
const FETCH: u64 = 1_000;
/// Far less than the messages take, in the streams or here.
const MOST_GROWTH: u64 = 48 << 20;
/// So many are handled before the memory is looked at: by then everything that is made once is there.
const WARM: u64 = 20_000;
/// How long nothing may go on before the test fails.
const LIMIT: Duration = Duration::from_secs(30);

/// Bytes of memory that this process has.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

async fn fill(messaging: &Messaging, messages: u64) {
    for first in (0..messages).step_by(TOGETHER as usize) {
        let together = (first..(first + TOGETHER).min(messages))
            .map(|number| Arc::new(Message::new("t", vec![b'x'; 100]).with_key((number % 1_000).to_string())));
        for outcome in messaging.publish_messages(together.collect()).await {
            outcome.confirmed().unwrap();
        }
    }
}

/// How many entries were delivered and are not settled.
async fn pending(redis: &Redis) -> u64 {
    let mut conn = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut sum = 0;
    for partition in 0..4 {
        let pending: Vec<redis::Value> =
            redis::cmd("XPENDING").arg(format!("{{t:{partition}}}")).arg("g").query_async(&mut conn).await.unwrap();
        sum += redis::from_redis_value::<u64>(pending[0].clone()).unwrap();
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_stays_where_it_is_until_it_is_handled() {
    let Some(redis) = test_brokers::or_skip(Redis::start_new().await) else { return };
    let messages = std::env::var("MESSAGING_BACKLOG").map_or(MESSAGES, |count| count.parse().unwrap());
    let config = MessagingConfig::from_url(&format!("{}?partitions=4", redis.url())).unwrap();
    let messaging = configure_messaging(&config, vec![Box::new(RedisBackend)]).await.unwrap();
    fill(&messaging, messages).await;

    let (gate, handled) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::new(0)));
    let handler = {
        let (gate, handled) = (gate.clone(), handled.clone());
        move |_: Delivery| {
            let (gate, handled) = (gate.clone(), handled.clone());
            async move {
                let _open = gate.acquire().await;
                handled.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let router = Router::new("g").max_in_flight(IN_FLIGHT).on_message("t", handler);
    let running = messaging.run_one(router).await.unwrap();
    // Nobody handles anything: reading ends once the window is full. It has when two looks see the same, beyond the time
    // in which a read would have come back.
    let begin = Instant::now();
    let mut before = 0;
    let read = loop {
        let now = pending(&redis).await;
        if now >= IN_FLIGHT as u64 && now == before {
            break now;
        }
        assert!(begin.elapsed() < LIMIT, "{now} are pending");
        before = now;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    };
    assert!(read <= IN_FLIGHT as u64 + 4 * FETCH, "{read} were read ahead");

    gate.close();
    let (mut least, mut most, mut last, mut progress) = (u64::MAX, 0, 0, Instant::now());
    while handled.load(Ordering::Relaxed) < messages {
        let now = handled.load(Ordering::Relaxed);
        if now != std::mem::replace(&mut last, now) {
            progress = Instant::now();
        }
        assert!(progress.elapsed() < LIMIT, "{now} of {messages} were handled");
        if now > WARM {
            let memory = memory();
            (least, most) = (least.min(memory), most.max(memory));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{messages} waited, {read} were read ahead, memory from {} to {} MiB", least >> 20, most >> 20);
    assert!(most - least < MOST_GROWTH, "from {least} to {most} bytes");
    running.shutdown(Duration::from_secs(10)).await.unwrap();
    assert_eq!(pending(&redis).await, 0);
}
