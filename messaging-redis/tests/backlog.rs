//! A long backlog costs neither publishers nor consumers memory: what is unconfirmed and what is read ahead is bounded,
//! whatever waits in the streams.
//!
//! In a program of its own, as it looks at the memory of its process. `MESSAGING_BACKLOG` says how many messages wait; they
//! take about 170 bytes each in the server's memory, and as much on its disk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use messaging::{Delivery, Message, Messaging, MessagingConfig, Router, configure_messaging};
use messaging_redis::RedisBackend;
use test_brokers::Redis;
use tokio::sync::Semaphore;

const MESSAGES: u64 = 300_000;
const TOGETHER: u64 = 500;
/// So many calls publish at once.
const CALLS: usize = 16;
const IN_FLIGHT: usize = 1_000;
/// What one read brings at most by default.
const FETCH: u64 = 1_000;
/// Far less than the messages take, in the streams or here.
const MOST_GROWTH: u64 = 48 << 20;
/// So many are handled before the memory is looked at: by then everything that is made once is there.
const WARM: u64 = 20_000;
/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How often it is shown, in the course of all messages.
const SHOWN: u64 = 10;
/// How long nothing may go on before the test fails.
const LIMIT: Duration = Duration::from_secs(30);

/// Bytes of memory that this process has.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// What the process's memory was while messages went by.
struct Course {
    what: &'static str,
    messages: u64,
    begin: Instant,
    least: u64,
    most: u64,
    shown: u64,
}

impl Course {
    fn new(what: &'static str, messages: u64) -> Self {
        Self { what, messages, begin: Instant::now(), least: u64::MAX, most: 0, shown: 0 }
    }

    /// Looks at the memory after so many messages.
    fn look(&mut self, done: u64) {
        if done < WARM {
            return;
        }
        let memory = memory();
        (self.least, self.most) = (self.least.min(memory), self.most.max(memory));
        let part = done * SHOWN / self.messages;
        if part >= self.shown {
            self.shown = part + 1;
            let (seconds, mib) = (self.begin.elapsed().as_secs_f64(), memory as f64 / f64::from(1 << 20));
            println!("{seconds:6.1} s: {done:9} {}, {mib:.1} MiB", self.what);
        }
    }

    /// It was flat.
    fn check(&self) {
        let (least, most) = (self.least, self.most);
        println!("{} {}: memory from {} to {} MiB", self.messages, self.what, least >> 20, most >> 20);
        assert!(most - least < MOST_GROWTH, "while {}: from {least} to {most} bytes", self.what);
    }
}

fn message(number: u64) -> Arc<Message> {
    Arc::new(Message::new("t", vec![b'x'; 100]).with_key((number % 1_000).to_string()))
}

async fn fill(messaging: &Messaging, messages: u64) {
    let (mut calls, mut course) = (FuturesUnordered::new(), Course::new("published", messages));
    let (mut firsts, mut confirmed) = ((0..messages).step_by(TOGETHER as usize), 0);
    loop {
        while calls.len() < CALLS
            && let Some(first) = firsts.next()
        {
            calls.push(messaging.publish_messages((first..(first + TOGETHER).min(messages)).map(message).collect()));
        }
        let Some(outcomes) = calls.next().await else { break };
        confirmed += outcomes.len() as u64;
        for outcome in outcomes {
            outcome.confirmed().unwrap();
        }
        course.look(confirmed);
    }
    course.check();
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
    println!("{messages} wait, {read} were read ahead");

    gate.close();
    let (mut course, mut last, mut progress) = (Course::new("handled", messages), 0, Instant::now());
    loop {
        let now = handled.load(Ordering::Relaxed);
        if now != std::mem::replace(&mut last, now) {
            progress = Instant::now();
        }
        assert!(progress.elapsed() < LIMIT, "{now} of {messages} were handled");
        course.look(now);
        if now == messages {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    course.check();
    running.shutdown(Duration::from_secs(10)).await.unwrap();
    assert_eq!(pending(&redis).await, 0);
}
