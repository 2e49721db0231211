//! [`UrlFactory`]: the ready-made factory of a backend that connects by an address, over brokers that a test can start.

use std::{future::Future, sync::Arc};

use async_trait::async_trait;
use messaging::{Address, Backend, BoxError, BoxFuture, Broker, Error, Position};
use tokio::sync::{Mutex, OnceCell, OwnedMutexGuard};

use crate::factory::{Cluster, Factory, Harm, Need, Pace, Route, Server};

/// Starts brokers for tests.
#[async_trait]
pub trait Hosts: Send + Sync + 'static {
    /// Starts a fresh broker; it ends when it is dropped, or this process ends.
    ///
    /// # Errors
    /// If it does not start.
    async fn start(&self) -> Result<Arc<dyn Host>, BoxError>;
}

/// One broker that was started.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// Its address.
    fn url(&self) -> String;

    /// Its processes, if they are ours to harm.
    fn server(&self) -> Option<&dyn Server>;

    /// A way to it that can be harmed, if there can be one.
    ///
    /// # Errors
    /// If there can be one, and is none.
    async fn way(&self) -> Result<Option<Box<dyn Way>>, BoxError>;
}

/// A way to a broker, for its borrower alone.
pub trait Way: Send + Sync {
    /// The broker's address by this way.
    fn url(&self) -> String;

    /// From now on this, in place of what was before.
    fn harm(&self, harm: Harm);

    /// All is well again.
    fn heal(&self);
}

type Keep = Box<dyn Fn(String, String) -> BoxFuture<Result<(), BoxError>> + Send + Sync>;
type Grow = Box<dyn Fn(String, String, u32) -> BoxFuture<Result<(), BoxError>> + Send + Sync>;
type Forget = Box<dyn Fn(String, String, u32, Position) -> BoxFuture<Result<(), BoxError>> + Send + Sync>;

/// A [`Factory`] of a backend that connects by an address.
///
/// One broker is shared by the tests that harm nobody, or only their own way to it; another is lent to those that stop or
/// kill it, one after the other.
pub struct UrlFactory {
    name: String,
    lacks: Vec<(Need, &'static str)>,
    missing: Option<String>,
    pace: Pace,
    shared: OnceCell<Arc<dyn Host>>,
    own: Arc<Mutex<Option<Arc<dyn Host>>>>,
    common: Arc<Common>,
}

struct Common {
    backend: Box<dyn Backend>,
    hosts: Box<dyn Hosts>,
    options: String,
    keep: Option<Keep>,
    grow: Option<Grow>,
    forget: Option<Forget>,
}

/// What a [`UrlFactory`] is made of.
#[must_use = "a builder does nothing until `build`"]
pub struct UrlFactoryBuilder {
    name: String,
    lacks: Vec<(Need, &'static str)>,
    missing: Option<String>,
    pace: Pace,
    common: Common,
}

impl UrlFactory {
    /// A factory of this name for a backend and its brokers.
    pub fn builder(name: &str, backend: impl Backend + 'static, hosts: impl Hosts) -> UrlFactoryBuilder {
        UrlFactoryBuilder {
            name: name.to_owned(),
            lacks: Vec::new(),
            missing: None,
            pace: Pace::default(),
            common: Common {
                backend: Box::new(backend),
                hosts: Box::new(hosts),
                options: String::new(),
                keep: None,
                grow: None,
                forget: None,
            },
        }
    }
}

impl UrlFactoryBuilder {
    /// Options that every address gets: `a=1&b=2`.
    pub fn options(mut self, options: &str) -> Self {
        self.common.options = options.to_owned();
        self
    }

    /// Something cannot be done to these brokers, for this reason.
    pub fn lacks(mut self, need: Need, reason: &'static str) -> Self {
        self.lacks.push((need, reason));
        self
    }

    /// This machine cannot have such a broker, for this reason.
    pub fn missing(mut self, reason: Option<String>) -> Self {
        self.missing = reason;
        self
    }

    /// How patient tests are.
    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// How a topic keeps what is published to it while it has no group ([`Cluster::keep`]): called with the broker's address
    /// and the topic.
    pub fn keep<F>(mut self, keep: impl Fn(String, String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.common.keep = Some(Box::new(move |url, topic| Box::pin(keep(url, topic))));
        self
    }

    /// How a topic gets more partitions: called with the broker's address, the topic and the number. Without it topics
    /// cannot grow.
    pub fn grow<F>(mut self, grow: impl Fn(String, String, u32) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.common.grow = Some(Box::new(move |url, topic, partitions| Box::pin(grow(url, topic, partitions))));
        self
    }

    /// How a partition loses what stands before a position: called with the broker's address, the topic, the partition
    /// and the first position that stays.
    pub fn forget<F>(mut self, forget: impl Fn(String, String, u32, Position) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let forget = move |url, topic, partition, first| Box::pin(forget(url, topic, partition, first)) as BoxFuture<_>;
        self.common.forget = Some(Box::new(forget));
        self
    }

    /// The factory.
    #[must_use]
    pub fn build(mut self) -> UrlFactory {
        let declared = |lacks: &[(Need, &str)], need| lacks.iter().any(|(lack, _)| *lack == need);
        if self.common.grow.is_none() && !declared(&self.lacks, Need::Grow) {
            self.lacks.push((Need::Grow, "its topics cannot grow"));
        }
        if self.common.forget.is_none() && !declared(&self.lacks, Need::Forget) {
            self.lacks.push((Need::Forget, "nothing is removed on demand"));
        }
        UrlFactory {
            name: self.name,
            lacks: self.lacks,
            missing: self.missing,
            pace: self.pace,
            shared: OnceCell::new(),
            own: Arc::default(),
            common: Arc::new(self.common),
        }
    }
}

impl Common {
    fn complete(&self, url: String) -> String {
        match (self.options.is_empty(), url.contains('?')) {
            (true, _) => url,
            (false, false) => format!("{url}?{}", self.options),
            (false, true) => format!("{url}&{}", self.options),
        }
    }

    async fn connect(&self, url: &str) -> Result<Arc<dyn Broker>, Error> {
        self.backend.connect(&url.parse::<Address>()?).await
    }
}

#[async_trait]
impl Factory for UrlFactory {
    fn name(&self) -> &str {
        &self.name
    }

    fn lacks(&self) -> Vec<(Need, &'static str)> {
        self.lacks.clone()
    }

    fn missing(&self) -> Option<String> {
        self.missing.clone()
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    async fn shared(&self) -> Result<Arc<dyn Cluster>, BoxError> {
        let host = self.shared.get_or_try_init(|| self.common.hosts.start()).await?.clone();
        Ok(Arc::new(UrlCluster { host, common: self.common.clone(), _lent: None }))
    }

    async fn own(&self) -> Result<Arc<dyn Cluster>, BoxError> {
        let mut lent = self.own.clone().lock_owned().await;
        let host = match &*lent {
            Some(host) => {
                // Whoever had it before may have failed in the middle.
                if let Some(server) = host.server() {
                    server.restore().await?;
                }
                host.clone()
            }
            None => lent.insert(self.common.hosts.start().await?).clone(),
        };
        Ok(Arc::new(UrlCluster { host, common: self.common.clone(), _lent: Some(lent) }))
    }

    async fn connect(&self, url: &str) -> Result<Arc<dyn Broker>, Error> {
        self.common.connect(url).await
    }
}

impl std::fmt::Debug for UrlFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UrlFactory").field("name", &self.name).field("lacks", &self.lacks).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for UrlFactoryBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UrlFactoryBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

struct UrlCluster {
    host: Arc<dyn Host>,
    common: Arc<Common>,
    _lent: Option<OwnedMutexGuard<Option<Arc<dyn Host>>>>,
}

#[async_trait]
impl Cluster for UrlCluster {
    async fn connect(&self) -> Result<Arc<dyn Broker>, Error> {
        self.common.connect(&self.common.complete(self.host.url())).await
    }

    fn url(&self) -> Option<String> {
        Some(self.common.complete(self.host.url()))
    }

    fn server(&self) -> Option<&dyn Server> {
        self.host.server()
    }

    async fn route(&self) -> Result<Option<Box<dyn Route>>, BoxError> {
        let way = self.host.way().await?;
        Ok(way.map(|way| Box::new(UrlRoute { way, common: self.common.clone() }) as Box<dyn Route>))
    }

    async fn keep(&self, topic: &str) -> Result<(), BoxError> {
        let Some(keep) = &self.common.keep else { return Ok(()) };
        keep(self.common.complete(self.host.url()), topic.to_owned()).await
    }

    async fn grow(&self, topic: &str, partitions: u32) -> Result<bool, BoxError> {
        let Some(grow) = &self.common.grow else { return Ok(false) };
        grow(self.host.url(), topic.to_owned(), partitions).await?;
        Ok(true)
    }

    async fn forget(&self, topic: &str, partition: u32, first: Position) -> Result<bool, BoxError> {
        let Some(forget) = &self.common.forget else { return Ok(false) };
        forget(self.host.url(), topic.to_owned(), partition, first).await?;
        Ok(true)
    }
}

struct UrlRoute {
    way: Box<dyn Way>,
    common: Arc<Common>,
}

#[async_trait]
impl Route for UrlRoute {
    async fn connect(&self) -> Result<Arc<dyn Broker>, Error> {
        self.common.connect(&self.url()).await
    }

    fn url(&self) -> String {
        self.common.complete(self.way.url())
    }

    fn harm(&self, harm: Harm) {
        self.way.harm(harm);
    }

    fn heal(&self) {
        self.way.heal();
    }
}
