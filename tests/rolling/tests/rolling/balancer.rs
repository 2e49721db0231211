//! What stands in front of replicas: each request goes to the next one, and to another if that takes no connection.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use service_testing::StatusCode;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many idle connections are kept to each replica. All of them are used within the time in which a server that stops
/// says that there will be no more.
const KEPT: usize = 8;

#[derive(Clone)]
pub(crate) struct Balancer(Arc<Inner>);

struct Inner {
    /// The URL of each replica, and a client whose connections stay open.
    replicas: Vec<(String, reqwest::Client)>,
    next: AtomicUsize,
    refused: AtomicUsize,
}

impl Balancer {
    pub(crate) fn new(addresses: impl IntoIterator<Item = String>) -> Self {
        let client = || reqwest::Client::builder().pool_max_idle_per_host(KEPT).timeout(PATIENCE).build().unwrap();
        let replicas = addresses.into_iter().map(|address| (format!("http://{address}"), client())).collect();
        Self(Arc::new(Inner { replicas, next: AtomicUsize::new(0), refused: AtomicUsize::new(0) }))
    }

    /// How often a replica took no connection.
    pub(crate) fn refused(&self) -> usize {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Posts to a replica that takes connections. What happens to a request on a connection is final: whoever sends an order
    /// again cannot know whether there will be two.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<(StatusCode, Value), String> {
        let replicas = &self.0.replicas;
        let first = self.0.next.fetch_add(1, Ordering::Relaxed);
        for (base, client) in (0..replicas.len()).map(|more| &replicas[(first + more) % replicas.len()]) {
            let answer = match client.post(format!("{base}{path}")).json(body).send().await {
                Ok(answer) => answer,
                Err(error) if is_refused(&error) => {
                    self.0.refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Err(error) => return Err(with_causes(&error)),
            };
            let status = answer.status();
            return match answer.json().await {
                Ok(body) => Ok((status, body)),
                Err(error) => Err(with_causes(&error)),
            };
        }
        Err("no replica takes connections".into())
    }
}

/// Whether the request was never sent, as nobody listens there.
fn is_refused(error: &reqwest::Error) -> bool {
    let refused = |cause: &io::Error| cause.kind() == io::ErrorKind::ConnectionRefused;
    error.is_connect() && causes(error).filter_map(|cause| cause.downcast_ref()).any(refused)
}

fn with_causes(error: &reqwest::Error) -> String {
    causes(error).fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}
