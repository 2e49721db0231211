//! [`KafkaBroker`]: one Kafka cluster as a [`Broker`].

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use messaging::{
    Address, Admin, Backend, Broker, Capabilities, Consumer, Error, Publisher, PublisherOptions, Subscription,
};

use crate::{
    admin::{KafkaAdmin, blocking},
    config::KafkaConfig,
    consumer,
    publisher::KafkaPublisher,
};

/// What a dead letter adds to its message, and a record to its payload, fits into so many bytes.
const ROOM_FOR_DEAD_LETTER: usize = 8 << 10;

/// Chooses Kafka for addresses of the scheme `kafka`.
#[derive(Clone, Copy, Debug, Default)]
pub struct KafkaBackend;

#[async_trait]
impl Backend for KafkaBackend {
    fn schemes(&self) -> &'static [&'static str] {
        &["kafka"]
    }

    async fn connect(&self, address: &Address) -> Result<Arc<dyn Broker>, Error> {
        let broker = KafkaBroker::connect(KafkaConfig::from_address(address)?).await?;
        Ok(Arc::new(broker))
    }
}

/// A Kafka cluster.
pub struct KafkaBroker {
    admin: KafkaAdmin,
    capabilities: Capabilities,
}

impl KafkaBroker {
    /// Connects to a cluster.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](messaging::ErrorKind::Config) if librdkafka refuses a setting, or the brokers refuse the user,
    /// the password or TLS;
    /// [`ErrorKind::Unavailable`](messaging::ErrorKind::Unavailable) or
    /// [`Timeout`](messaging::ErrorKind::Timeout) if no broker answers within the connect timeout.
    pub async fn connect(config: KafkaConfig) -> Result<Self, Error> {
        let connecting = move || {
            let mut admin = KafkaAdmin::new(config)?;
            admin.connect()?;
            Ok(admin)
        };
        let admin = blocking(connecting).await?;
        let mut capabilities = Capabilities::none(admin.limits().record.saturating_sub(ROOM_FOR_DEAD_LETTER));
        capabilities.durable = true;
        capabilities.retains_history = true;
        capabilities.fencing_token = true;
        capabilities.partitions_can_grow = true;
        capabilities.gates_on_validity = true;
        Ok(Self { admin, capabilities })
    }
}

#[async_trait]
impl Broker for KafkaBroker {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn publisher(&self, options: PublisherOptions) -> Result<Arc<dyn Publisher>, Error> {
        let config = self.admin.config().producer(options.deadline, self.admin.limits().record);
        Ok(KafkaPublisher::open(config, options.deadline, self.admin.clone())?)
    }

    async fn consumer(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, Error> {
        let (admin, subscription) = (self.admin.clone(), subscription.clone());
        let consumer = blocking(move || consumer::join(admin, &subscription)).await?;
        Ok(Box::new(consumer))
    }

    fn admin(&self) -> Arc<dyn Admin> {
        Arc::new(self.admin.clone())
    }

    async fn ping(&self, deadline: Duration) -> Result<(), Error> {
        let admin = self.admin.clone();
        blocking(move || admin.ping(deadline)).await
    }

    async fn close(&self, _: Duration) -> Result<(), Error> {
        // Nothing is shared but the administration's client, which holds nothing back.
        Ok(())
    }
}

impl std::fmt::Debug for KafkaBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaBroker").field("config", self.admin.config()).finish_non_exhaustive()
    }
}
