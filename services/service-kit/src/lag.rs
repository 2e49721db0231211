//! How far groups are behind, as a gauge: asked of the broker now and then, since only the broker knows.

use std::collections::BTreeSet;
use std::time::Duration;

use messaging::{Admin, Error, Messaging, Name, Router};
use tokio::time::MissedTickBehavior;

/// Messages that a group has not settled, by `group`, `topic` and `partition`.
pub const LAG: &str = "messaging_lag";
/// Looks at the lag that failed or took too long: the gauge is then as it was before.
pub const LAG_FAILURES: &str = "messaging_lag_failures_total";

/// How often the broker is asked.
const PERIOD: Duration = Duration::from_secs(10);

/// The longest that it may take over the answer about one topic.
const DEADLINE: Duration = Duration::from_secs(5);

/// What groups read which topics.
#[derive(Debug, Clone)]
pub(crate) struct Watched(Vec<(Name, Name)>);

impl Watched {
    pub(crate) fn of(routers: &[Router]) -> Self {
        let mut pairs: Vec<(Name, Name)> = Vec::new();
        for subscription in routers.iter().map(Router::subscription) {
            for topic in subscription.topics {
                let pair = (subscription.group.clone(), topic);
                if !pairs.contains(&pair) {
                    pairs.push(pair);
                }
            }
        }
        Self(pairs)
    }

    /// Every group once.
    pub(crate) fn groups(&self) -> BTreeSet<Name> {
        self.0.iter().map(|(group, _)| group.clone()).collect()
    }

    /// Keeps the gauge up to date, until it is dropped.
    pub(crate) async fn watch(&self, messaging: &Messaging) {
        let admin = messaging.admin();
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (group, topic) in &self.0 {
                let looked = tokio::time::timeout(DEADLINE, look(&*admin, group, topic)).await;
                let reason = match looked {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => format!("no answer within {} s", DEADLINE.as_secs()),
                };
                metrics::counter!(LAG_FAILURES, "group" => group.to_string(), "topic" => topic.to_string())
                    .increment(1);
                tracing::warn!(%group, %topic, reason, "cannot see the lag");
            }
        }
    }
}

async fn look(admin: &dyn Admin, group: &Name, topic: &Name) -> Result<(), Error> {
    for row in admin.progress(group, topic).await? {
        let labels =
            [("group", group.to_string()), ("topic", topic.to_string()), ("partition", row.partition.to_string())];
        metrics::gauge!(LAG, &labels).set(row.lag as f64);
    }
    Ok(())
}
