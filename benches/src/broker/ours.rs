//! [`Ours`]: the library as one side of a contest, the same on every broker.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use async_trait::async_trait;
use futures::{StreamExt as _, stream::FuturesUnordered};
use messaging::{
    Backend, Delivery, Envelope, Message, Messaging, MessagingConfig, Name, Outcome, Router, TopicSpec,
    configure_messaging,
};

use super::{Contender, EVENT, Errand, SOURCE};

const CLOSING: Duration = Duration::from_secs(30);

/// Connects to a broker.
pub(crate) async fn connect(url: &str, backend: impl Backend + 'static) -> anyhow::Result<Messaging> {
    Ok(configure_messaging(&MessagingConfig::from_url(url)?, vec![Box::new(backend)]).await?)
}

/// This library on a broker.
pub(crate) struct Ours {
    pub(crate) messaging: Messaging,
    /// How many events one call publishes.
    pub(crate) together: u64,
    /// How many events wait for their confirm at once, on their way or in hand to be sent next.
    pub(crate) outstanding: u64,
}

impl Ours {
    fn router(&self, errand: &Arc<Errand>) -> Router {
        let errand = errand.clone();
        Router::new(errand.group.clone()).topic(errand.topic.clone()).on_event(EVENT, move |delivery: Delivery| {
            errand.arrivals.note(&delivery.message.payload);
            std::future::ready(())
        })
    }
}

fn event(errand: &Errand, source: &Name, name: &Name, number: u64) -> Arc<Message> {
    let parts = errand.parts(number);
    let envelope = Envelope { id: parts.id, source: source.clone(), name: name.clone(), time: Some(parts.time) };
    let message = Message::new(errand.topic.clone(), parts.payload).with_key(parts.key).with_envelope(envelope);
    Arc::new(message.with_content_type(Name::from_static("application/octet-stream")))
}

fn check(outcomes: Vec<Outcome>) -> anyhow::Result<()> {
    outcomes.into_iter().try_for_each(|outcome| outcome.confirmed().map(drop)).context("a publish was not confirmed")
}

#[async_trait]
impl Contender for Ours {
    async fn subscribe(&self, errand: &Arc<Errand>) -> anyhow::Result<()> {
        let mut spec = TopicSpec::default();
        spec.partitions = errand.partitions;
        self.messaging.admin().ensure_topic(&errand.topic, &spec).await?;
        self.messaging.run([self.router(errand)]).await?.shutdown(CLOSING).await?;
        Ok(())
    }

    async fn publish(&self, errand: &Arc<Errand>) -> anyhow::Result<()> {
        let (source, name) = (Name::from_static(SOURCE), Name::from_static(EVENT));
        let mut calls = FuturesUnordered::new();
        for first in (0..errand.messages).step_by(self.together as usize) {
            let numbers = first..(first + self.together).min(errand.messages);
            let events = numbers.map(|number| event(errand, &source, &name, number)).collect();
            calls.push(self.messaging.publish_messages(events));
            if calls.len() as u64 * self.together >= self.outstanding {
                check(calls.next().await.unwrap_or_default())?;
            }
        }
        while let Some(outcomes) = calls.next().await {
            check(outcomes)?;
        }
        Ok(())
    }

    async fn consume(&self, errand: &Arc<Errand>) -> anyhow::Result<()> {
        let running = self.messaging.run([self.router(errand)]).await?;
        errand.arrivals.complete().await;
        running.shutdown(CLOSING).await?;
        Ok(())
    }

    async fn unsettled(&self, errand: &Arc<Errand>) -> anyhow::Result<u64> {
        let progress = self.messaging.admin().progress(&errand.group, &errand.topic).await?;
        Ok(progress.iter().map(|partition| partition.lag).sum())
    }
}
