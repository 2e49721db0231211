//! Orders at a rate that nothing slows down, as many independent customers make it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use service_testing::StatusCode;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::balancer::Balancer;

/// What became of all orders.
#[derive(Default)]
pub(crate) struct Posted {
    /// When each order was due, in microseconds since 1970, by its id.
    pub(crate) accepted: BTreeMap<i64, i64>,
    /// From when an order was due to its answer.
    pub(crate) answers: Vec<Duration>,
    /// What was answered instead of 201, and errors.
    pub(crate) failures: Vec<String>,
    /// How long it took.
    pub(crate) lasting: Duration,
}

pub(crate) struct OpenLoop {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Posted>,
}

impl OpenLoop {
    /// Starts to place so many orders a second.
    pub(crate) fn start(rate: u32, balancer: Balancer) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(post_all(Duration::from_secs(1) / rate, balancer, stop.clone()));
        Self { stop, task }
    }

    /// Places no more, and waits for the answers that are due.
    pub(crate) async fn stop(self) -> Posted {
        self.stop.cancel();
        service_testing::soon("the last answers", self.task).await.unwrap()
    }
}

async fn post_all(pace: Duration, balancer: Balancer, stop: CancellationToken) -> Posted {
    // Both clocks are read once, so that a step of the wall clock is no latency.
    let (begin, wall) = (Instant::now(), SystemTime::now());
    let mut ticks = tokio::time::interval(pace);
    // An order that is late is placed at once, and its latency counts from when it was due.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = JoinSet::new();
    let mut posted = Posted::default();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            due = ticks.tick() => { requests.spawn(post(due, balancer.clone())); }
            Some(answer) = requests.join_next() => posted.add(answer.unwrap(), begin, wall),
        }
    }
    posted.lasting = begin.elapsed();
    while let Some(answer) = requests.join_next().await {
        posted.add(answer.unwrap(), begin, wall);
    }
    posted
}

/// An order that is due now; answers its id and when the answer came.
async fn post(due: Instant, balancer: Balancer) -> (Instant, Instant, Result<i64, String>) {
    let order = json!({"user_id": 1, "user_email": "user@example.com", "total": "99.99"});
    let answer = balancer.post("/api/v1/orders/", &order).await;
    let id = answer.and_then(|(status, body)| match (status, &body["id"]) {
        (StatusCode::CREATED, Value::Number(id)) => id.as_i64().ok_or_else(|| body.to_string()),
        _ => Err(format!("{status}: {body}")),
    });
    (due, Instant::now(), id)
}

impl Posted {
    fn add(&mut self, (due, answered, id): (Instant, Instant, Result<i64, String>), begin: Instant, wall: SystemTime) {
        match id {
            Ok(id) => {
                self.answers.push(answered - due);
                let due = (wall + (due - begin)).duration_since(UNIX_EPOCH).unwrap();
                let before = self.accepted.insert(id, i64::try_from(due.as_micros()).unwrap());
                assert_eq!(before, None, "two orders have the id {id}");
            }
            Err(error) => self.failures.push(error),
        }
    }
}
