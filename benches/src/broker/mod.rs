//! Publishing and consuming on a real broker: ours against the raw client with the same duty and the same settings.
//!
//! A round is one contender's: a fresh topic, a group that is subscribed to it, so many events published until each is
//! confirmed, then all of them consumed and settled. Rounds are interleaved, and each ends only when every message has
//! arrived once and nothing is left unsettled. A broker joins by a `Contender` that is its raw client.

mod contest;
mod cost;
mod errand;
#[cfg(feature = "kafka")]
mod lanes;
mod ours;

#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
#[cfg(feature = "redis")]
pub mod redis;

use std::sync::Arc;

use async_trait::async_trait;

pub(crate) use self::{
    contest::contest,
    errand::{EVENT, Errand, SOURCE},
    ours::{Ours, connect},
};

/// One side of a contest.
#[async_trait]
pub(crate) trait Contender: Send + Sync {
    /// Makes the errand's topic with its partitions, and its group, so that what is published from now on reaches it.
    async fn subscribe(&self, errand: &Arc<Errand>) -> anyhow::Result<()>;

    /// Publishes every event of the errand; returns when each is confirmed, and fails if one is not.
    async fn publish(&self, errand: &Arc<Errand>) -> anyhow::Result<()>;

    /// Consumes as the errand's group: tells the errand's arrivals of every message, settles it, and leaves once all have
    /// arrived.
    async fn consume(&self, errand: &Arc<Errand>) -> anyhow::Result<()>;

    /// How many messages the group has left unsettled.
    async fn unsettled(&self, errand: &Arc<Errand>) -> anyhow::Result<u64>;

    /// Removes what a round has left on the broker. The raw side is asked to, for the rounds of both.
    async fn clean(&self, _: &Arc<Errand>) -> anyhow::Result<()> {
        Ok(())
    }
}
