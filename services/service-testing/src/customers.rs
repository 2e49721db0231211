//! Customers who go on ordering whatever happens to the service: load for tests that kill programs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Client;

/// How long a customer waits between two orders: so long that four of them order no more than services without
/// optimisation can notify and mail at the same time.
const PAUSE: Duration = Duration::from_millis(150);

/// How long he waits before he tries again at a service that is away.
const AGAIN: Duration = Duration::from_millis(40);

/// How long he waits for an answer: a service that was killed closes its connections at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// Customers, each of whom places one order after the other and completes it.
///
/// A service that is away is tried again; what it answers must be what it promises: 201, then 200, or 409 where the answer
/// to an earlier try was lost.
#[derive(Debug)]
pub struct Customers {
    tasks: JoinSet<()>,
    completed: watch::Sender<usize>,
    leaving: Arc<AtomicBool>,
}

impl Customers {
    /// So many customers of the orders service, whose client changes when it moves.
    pub fn start(count: usize, service: &watch::Receiver<Client>) -> Self {
        let mut customers = Self { tasks: JoinSet::new(), completed: watch::Sender::new(0), leaving: Arc::default() };
        for number in 1..=count {
            let customer = Customer {
                order: json!({"user_id": number, "user_email": "user@example.com", "total": "99.99"}),
                service: service.clone(),
                completed: customers.completed.clone(),
                leaving: customers.leaving.clone(),
            };
            customers.tasks.spawn(customer.go_on_ordering());
        }
        customers
    }

    /// How many orders they have completed until now.
    pub fn completed(&self) -> usize {
        *self.completed.borrow()
    }

    /// Waits until they have completed so many more orders.
    pub async fn complete_more(&mut self, orders: usize) {
        let goal = self.completed() + orders;
        let mut completed = self.completed.subscribe();
        tokio::select! {
            reached = crate::soon("completed orders", completed.wait_for(|completed| *completed >= goal)) => drop(reached),
            Some(ended) = self.tasks.join_next() => ended.unwrap(),
        }
    }

    /// Lets each complete what he has begun.
    pub async fn leave(mut self) {
        self.leaving.store(true, Ordering::Relaxed);
        crate::soon("the last orders", async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.unwrap();
            }
        })
        .await;
    }
}

struct Customer {
    order: Value,
    service: watch::Receiver<Client>,
    completed: watch::Sender<usize>,
    leaving: Arc<AtomicBool>,
}

impl Customer {
    async fn go_on_ordering(self) {
        while !self.leaving.load(Ordering::Relaxed) {
            let (status, placed) = self.answer(|client| self.request(client, "/api/v1/orders/")).await;
            assert_eq!(status, StatusCode::CREATED, "{placed}");
            let path = format!("/api/v1/orders/{}/complete", placed["id"]);
            let (status, completed) = self.answer(|client| self.request(client, &path)).await;
            assert!(matches!(status, StatusCode::OK | StatusCode::CONFLICT), "{completed}");
            self.completed.send_modify(|completed| *completed += 1);
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn request(&self, client: &Client, path: &str) -> RequestBuilder {
        client.request(Method::POST, path).json(&self.order).timeout(PATIENCE)
    }

    /// The first whole answer.
    async fn answer(&self, request: impl Fn(&Client) -> RequestBuilder) -> (StatusCode, Value) {
        loop {
            let client = self.service.borrow().clone();
            if let Ok(answer) = request(&client).send().await {
                let status = answer.status();
                if let Ok(body) = answer.json().await {
                    return (status, body);
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
