//! [`RabbitMqBroker`], and the [`Backend`] by which an address makes one.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use messaging::{
    Address, Admin, Backend, Broker, Capabilities, Consumer, Error, ErrorKind, Publisher, PublisherOptions,
    Subscription, handoff::handoff,
};
use tokio::time::timeout;

use crate::{
    admin::RabbitMqAdmin,
    announcer::Announcer,
    config::RabbitMqConfig,
    consumer::{Desk, RabbitMqConsumer},
    joined::Joined,
    link::Links,
    publisher::RabbitMqPublisher,
    session::{Session, member_name},
};

/// RabbitMQ, for `amqp:` and, with the feature `tls`, `amqps:` addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct RabbitMqBackend;

#[async_trait]
impl Backend for RabbitMqBackend {
    fn schemes(&self) -> &'static [&'static str] {
        &["amqp", "amqps"]
    }

    async fn connect(&self, address: &Address) -> Result<Arc<dyn Broker>, Error> {
        Ok(Arc::new(RabbitMqBroker::connect(RabbitMqConfig::from_address(address)?).await?))
    }
}

/// One RabbitMQ server or cluster, by one user in one virtual host.
///
/// Publishers and consumers have connections of their own; they live on the runtime that was current when the broker was
/// connected.
#[derive(Debug)]
pub struct RabbitMqBroker {
    links: Arc<Links>,
    capabilities: Capabilities,
    admin: Arc<RabbitMqAdmin>,
    announcer: Arc<Announcer>,
}

impl RabbitMqBroker {
    /// Connects, to see whether the broker is there.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if an option is wrong or the user is refused; [`ErrorKind::Unavailable`] if no node answers
    /// within the deadline for connecting.
    pub async fn connect(config: RabbitMqConfig) -> Result<Self, Error> {
        let mut capabilities = Capabilities::none(config.max_message_bytes);
        capabilities.durable = true;
        capabilities.gates_on_validity = true;
        let links = Links::new(config)?;
        let announcer = Arc::new(Announcer::new(links.clone()));
        let admin = Arc::new(RabbitMqAdmin::new(links.clone(), announcer.clone()));
        admin.ping().await?;
        Ok(Self { links, capabilities, admin, announcer })
    }
}

#[async_trait]
impl Broker for RabbitMqBroker {
    fn name(&self) -> &'static str {
        "amqp"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn publisher(&self, options: PublisherOptions) -> Result<Arc<dyn Publisher>, Error> {
        Ok(RabbitMqPublisher::open(&self.links, options).await?)
    }

    async fn consumer(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, Error> {
        self.links.config.check_hold(subscription)?;
        let member = member_name();
        let link = Joined::connect(&self.links, subscription).await?;
        let (joined, places) = Joined::new(link, &self.links, subscription, &member).await?;
        let desk = Arc::new(Desk::default());
        let (sender, receiver) = handoff();
        let partitions: Vec<_> =
            places.iter().map(|place| (place.topic.clone(), place.partition, place.prefetch)).collect();
        let session = Session::new(
            self.links.clone(),
            self.announcer.clone(),
            subscription.clone(),
            member,
            places,
            (desk.clone(), sender),
        )?;
        self.links.runtime.spawn(session.run(joined));
        Ok(Box::new(RabbitMqConsumer::new(desk, receiver, partitions, subscription.revoke_drain)))
    }

    fn admin(&self) -> Arc<dyn Admin> {
        self.admin.clone()
    }

    async fn ping(&self, deadline: Duration) -> Result<(), Error> {
        match timeout(deadline, self.admin.ping()).await {
            Ok(answer) => answer,
            Err(_) => {
                let message = format!("RabbitMQ did not answer within {} ms", deadline.as_millis());
                Err(Error::new(ErrorKind::Timeout, message))
            }
        }
    }

    async fn close(&self, deadline: Duration) -> Result<(), Error> {
        let closing = async {
            self.announcer.close().await;
            self.admin.close().await;
        };
        timeout(deadline, closing)
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "the connections did not close in time"))
    }
}
