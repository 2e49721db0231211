//! [`Joined`]: a connection on which a group is declared and its members are heard.

use std::sync::Arc;

use lapin::{
    Channel, ExchangeKind,
    options::{BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use messaging::{BootClock, Clock as _, Error, Name, Subscription, Tick};

use crate::{
    config::QueueType,
    link::{Link, Links},
    names,
    partitions::Place,
    topology::Topology,
};

/// A connection on which the group is declared and its announcements are heard.
pub(crate) struct Joined {
    pub(crate) link: Arc<Link>,
    /// For questions alone.
    pub(crate) control: Channel,
    pub(crate) heard: lapin::Consumer,
    /// The last time at which the connection is known to have been alive.
    pub(crate) alive: Tick,
}

impl Joined {
    /// Opens a connection for a group.
    pub(crate) async fn connect(links: &Arc<Links>, subscription: &Subscription) -> Result<Link, Error> {
        links.open(&format!("messaging: group {}", subscription.group)).await
    }

    /// Declares the group, and listens to its members. What the topics are comes with it.
    pub(crate) async fn new(
        link: Link,
        links: &Arc<Links>,
        subscription: &Subscription,
        member: &str,
    ) -> Result<(Self, Vec<Place>), Error> {
        let (link, group) = (Arc::new(link), &subscription.group);
        let quorum = links.config.queue_type == QueueType::Quorum;
        let topics = Topology { links, link: &link }.group(subscription).await?;
        let mut places = Vec::new();
        for (topic, facts) in topics {
            // Whoever settles by hand has to see past what stays as it is.
            let prefetch = if subscription.dead_letters { facts.prefetch } else { u16::MAX };
            for partition in 0..facts.partitions {
                let queue = names::group_queue(&topic, group, partition)?;
                places.push(Place { topic: topic.clone(), partition, queue, prefetch, quorum });
            }
        }
        let control = link.channel().await?;
        let heard = listen(&link, &control, group, member).await?;
        let alive = BootClock.now();
        link.answer("looking whether the connection lives", ping(&control)).await?;
        Ok((Self { link, control, heard, alive }, places))
    }

    /// Until when the broker keeps what is ours without hearing from us, less what clocks and threads may take.
    pub(crate) fn valid_until(&self) -> Tick {
        self.alive + self.link.heartbeat.mul_f64(1.8)
    }
}

/// Declares the exchange on which members announce themselves, and hears it.
async fn listen(link: &Link, channel: &Channel, group: &Name, member: &str) -> Result<lapin::Consumer, Error> {
    // Another one for each connection: the broker may still keep that of the one before.
    let (exchange, listener) = (names::members_exchange(group)?, format!("{member}-{:08x}", fastrand::u32(..)));
    let queue = names::member_queue(group, &listener)?;
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declaring = channel.exchange_declare(exchange.clone(), ExchangeKind::Fanout, options, FieldTable::default());
    link.answer(&format!("declaring exchange {exchange}"), declaring).await?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let declaring = channel.queue_declare(queue.clone(), options, FieldTable::default());
    link.answer(&format!("declaring queue {queue}"), declaring).await?;
    let options = QueueBindOptions::default();
    let binding = channel.queue_bind(queue.clone(), exchange, "".into(), options, FieldTable::default());
    link.answer(&format!("binding queue {queue}"), binding).await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consuming = channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default());
    link.answer(&format!("consuming {queue}"), consuming).await
}

/// A question that changes nothing.
pub(crate) async fn ping(channel: &Channel) -> lapin::Result<()> {
    channel.basic_qos(1, BasicQosOptions::default()).await
}
