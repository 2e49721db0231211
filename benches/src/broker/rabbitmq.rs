//! RabbitMQ: the raw side by `lapin`: an exchange, a quorum queue per partition, the same properties, window of confirms,
//! prefetch and acknowledgements for many at once.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _, future::try_join_all, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, ExchangeKind,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use messaging::{EventId, partition_for_key};
use messaging_rabbitmq::RabbitMqBackend;
use test_brokers::RabbitMq;

use super::{Contender, EVENT, Errand, Ours, SOURCE, connect, contest};
use crate::report;

const PARTITIONS: u32 = 4;
/// Messages without their confirm, messages of a queue without their acknowledgement, and so many acknowledged at once;
/// as ours does.
const CONFIRMS: usize = 1_024;
const PREFETCH: u16 = 256;
const TOGETHER: u64 = 64;
const CLOSING: Duration = Duration::from_secs(30);

/// Starts a RabbitMQ, or takes the given one, and prints the figures.
///
/// # Errors
/// If there is no RabbitMQ, or a message did not arrive.
pub async fn run() -> anyhow::Result<()> {
    let rabbitmq = RabbitMq::options().start().await?;
    let ours = Ours { messaging: connect(&rabbitmq.url(), RabbitMqBackend).await?, together: 250, outstanding: 1_500 };
    let raw = Raw { url: rabbitmq.url() };
    let rows = contest("rabbitmq", PARTITIONS, &ours, &raw).await?;
    let version = rabbitmq.version().unwrap_or("given");
    report::print(&format!("RabbitMQ {version}: ours against raw `lapin`"), &rows);
    ours.messaging.close(CLOSING).await?;
    Ok(())
}

/// `lapin` without anything around it.
struct Raw {
    url: String,
}

fn queues(errand: &Errand) -> impl Iterator<Item = ShortString> {
    (0..errand.partitions).map(|partition| format!("{}:{}:{partition}", errand.topic, errand.group).into())
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn properties(key: &str, id: &EventId, time: &str) -> BasicProperties {
    let id = match id {
        EventId::Uuid(uuid) => uuid.hyphenated().to_string(),
        EventId::Text(text) => text.to_string(),
    };
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("messaging-key", key),
        ("cloudEvents_specversion", "1.0"),
        ("cloudEvents_id", &id),
        ("cloudEvents_source", SOURCE),
        ("cloudEvents_type", EVENT),
        ("cloudEvents_time", time),
    ] {
        headers.insert(name.into(), text(value));
    }
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/octet-stream".into())
        .with_message_id(id.into())
        .with_type(EVENT.into())
        .with_headers(headers)
}

impl Raw {
    async fn connection(&self) -> anyhow::Result<Connection> {
        Ok(Connection::connect(&self.url, ConnectionProperties::default()).await?)
    }

    /// A channel for questions; its connection has to be kept.
    async fn control(&self) -> anyhow::Result<(Connection, Channel)> {
        let connection = self.connection().await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }
}

#[async_trait]
impl Contender for Raw {
    async fn subscribe(&self, errand: &Arc<Errand>) -> anyhow::Result<()> {
        let (connection, channel) = self.control().await?;
        let exchange: ShortString = errand.topic.as_str().into();
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(exchange.clone(), ExchangeKind::Direct, durable, FieldTable::default()).await?;
        for (partition, queue) in queues(errand).enumerate() {
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), text("quorum"));
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
            let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(queue.clone(), durable, arguments).await?;
            let key = partition.to_string().into();
            channel
                .queue_bind(queue, exchange.clone(), key, QueueBindOptions::default(), FieldTable::default())
                .await?;
        }
        Ok(connection.close(200, "OK".into()).await?)
    }

    async fn publish(&self, errand: &Arc<Errand>) -> anyhow::Result<()> {
        let (connection, channel) = self.control().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let keys: Vec<ShortString> = (0..errand.partitions).map(|partition| partition.to_string().into()).collect();
        let exchange: ShortString = errand.topic.as_str().into();
        let mut confirms = FuturesUnordered::new();
        for number in 0..errand.messages {
            let parts = errand.parts(number);
            let properties = properties(&parts.key, &parts.id, &parts.time.to_string());
            let key = keys[partition_for_key(parts.key.as_bytes(), errand.partitions) as usize].clone();
            let (channel, exchange) = (channel.clone(), exchange.clone());
            // Written and confirmed in one: faster than to wait for each write.
            let mut publishing = Box::pin(async move {
                let options = BasicPublishOptions { mandatory: true, immediate: false };
                channel.basic_publish(exchange, key, options, &parts.payload, properties).await?.await
            });
            match publishing.as_mut().now_or_never() {
                Some(answer) => check(&answer?)?,
                None => confirms.push(publishing),
            }
            if confirms.len() >= CONFIRMS {
                check(&confirms.next().await.context("nothing was sent")??)?;
            }
        }
        while let Some(answer) = confirms.next().await {
            check(&answer?)?;
        }
        Ok(connection.close(200, "OK".into()).await?)
    }

    async fn consume(&self, errand: &Arc<Errand>) -> anyhow::Result<()> {
        let connection = self.connection().await?;
        let opened = queues(errand).map(|queue| async {
            let channel = connection.create_channel().await?;
            channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            let consumer = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
            anyhow::Ok((channel, consumer))
        });
        let opened = try_join_all(opened).await?;
        let channels: Vec<Channel> = opened.iter().map(|(channel, _)| channel.clone()).collect();
        let consuming = opened.into_iter().map(|(channel, consumer)| {
            let errand = errand.clone();
            tokio::spawn(async move { drain(&errand, &channel, consumer).await })
        });
        let consuming: Vec<_> = consuming.collect();
        errand.arrivals.complete().await;
        // What arrived last is acknowledged as soon as nothing else is there.
        while self.unsettled(errand).await? > 0 {}
        for channel in channels {
            channel.close(200, "OK".into()).await?;
        }
        for ended in consuming {
            ended.await??;
        }
        Ok(connection.close(200, "OK".into()).await?)
    }

    async fn unsettled(&self, errand: &Arc<Errand>) -> anyhow::Result<u64> {
        let (connection, channel) = self.control().await?;
        let mut unsettled = 0;
        for queue in queues(errand) {
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let found = channel.queue_declare(queue, options, FieldTable::default()).await?;
            unsettled += u64::from(found.message_count());
        }
        connection.close(200, "OK".into()).await?;
        Ok(unsettled)
    }

    async fn clean(&self, errand: &Arc<Errand>) -> anyhow::Result<()> {
        let (connection, channel) = self.control().await?;
        for queue in queues(errand) {
            channel.queue_delete(queue, QueueDeleteOptions::default()).await?;
        }
        channel.exchange_delete(errand.topic.as_str().into(), ExchangeDeleteOptions::default()).await?;
        Ok(connection.close(200, "OK".into()).await?)
    }
}

/// Notes and acknowledges what comes on one channel, until it is closed.
async fn drain(errand: &Errand, channel: &Channel, mut consumer: Consumer) -> anyhow::Result<()> {
    let (mut last, mut acked) = (0, 0);
    loop {
        let next = match consumer.next().now_or_never() {
            Some(next) => next,
            None => {
                if last > acked {
                    channel.basic_ack(last, BasicAckOptions { multiple: true }).await?;
                    acked = last;
                }
                consumer.next().await
            }
        };
        let Some(Ok(delivery)) = next else {
            ensure!(errand.arrivals.is_complete(), "a consumer ended");
            return Ok(());
        };
        let (mut has_key, mut is_event) = (false, false);
        for (name, value) in delivery.properties.headers().iter().flatten() {
            match (name.as_str(), value) {
                ("messaging-key", _) => has_key = true,
                ("cloudEvents_type", AMQPValue::LongString(name)) => is_event = name.as_bytes() == EVENT.as_bytes(),
                _ => {}
            }
        }
        ensure!(has_key && is_event, "a message without key or type");
        errand.arrivals.note(&delivery.data);
        last = delivery.delivery_tag;
        if last - acked >= TOGETHER {
            channel.basic_ack(last, BasicAckOptions { multiple: true }).await?;
            acked = last;
        }
    }
}

fn check(confirmation: &Confirmation) -> anyhow::Result<()> {
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        other => bail!("not confirmed: {other:?}"),
    }
}
