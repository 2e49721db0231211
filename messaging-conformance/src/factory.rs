//! [`Factory`] and [`Cluster`]: what the suite needs from a backend, and what it may be given to harm it with.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use messaging::{BoxError, Broker, Error, Position};

/// Makes what a backend's tests run against.
#[async_trait]
pub trait Factory: Send + Sync + 'static {
    /// The backend's name, with which the names of its tests begin.
    fn name(&self) -> &str;

    /// What cannot be done to this backend, and why: a property of the backend, not of the machine. Tests that need it
    /// are shown as not applicable, with the reason; another test checks that it is true.
    fn lacks(&self) -> Vec<(Need, &'static str)> {
        Vec::new()
    }

    /// Why this machine can run none of the tests, if it cannot; they are shown as ignored then.
    fn missing(&self) -> Option<String> {
        None
    }

    /// How patient tests are.
    fn pace(&self) -> Pace {
        Pace::default()
    }

    /// A cluster that several tests use at the same time; never harmed.
    ///
    /// # Errors
    /// If there is none to be had.
    async fn shared(&self) -> Result<Arc<dyn Cluster>, BoxError>;

    /// A cluster that is the caller's alone until it is dropped, to be harmed. Waits for the one before to be dropped if
    /// there is only one.
    ///
    /// # Errors
    /// If there is none to be had.
    async fn own(&self) -> Result<Arc<dyn Cluster>, BoxError>;

    /// Connects to a cluster by its [`url`](Cluster::url): called in processes that play a member.
    ///
    /// # Errors
    /// If it cannot be reached.
    async fn connect(&self, url: &str) -> Result<Arc<dyn Broker>, Error>;
}

/// One cluster of brokers, or a bus.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// A new connection.
    ///
    /// # Errors
    /// If it cannot be reached.
    async fn connect(&self) -> Result<Arc<dyn Broker>, Error>;

    /// Its address, by which other processes connect; `None` if only this process can. Then members that are to die are
    /// dropped instead of killed.
    fn url(&self) -> Option<String> {
        None
    }

    /// Its processes, to be stopped and killed ([`Need::Server`]).
    fn server(&self) -> Option<&dyn Server> {
        None
    }

    /// A way to it that can be harmed, for the caller alone ([`Need::Route`]).
    ///
    /// # Errors
    /// If there is none to be had although there should be.
    async fn route(&self) -> Result<Option<Box<dyn Route>>, BoxError> {
        Ok(None)
    }

    /// For members in this process: how to cut off the one that joined this group last ([`Need::Freeze`]). Processes are
    /// stopped by a signal instead.
    fn sever(&self, group: &str) -> Option<Box<dyn Sever>> {
        let _ = group;
        None
    }

    /// Called with each topic that a test makes: where messages are kept for groups alone, sees to it that they are kept
    /// without one too, so that they can be browsed. Nothing is to be done where topics keep what is published.
    ///
    /// # Errors
    /// If that fails.
    async fn keep(&self, topic: &str) -> Result<(), BoxError> {
        let _ = topic;
        Ok(())
    }

    /// Gives a topic more partitions ([`Need::Grow`]). Answers whether it can.
    ///
    /// # Errors
    /// If it can, and failed.
    async fn grow(&self, topic: &str, partitions: u32) -> Result<bool, BoxError> {
        let _ = (topic, partitions);
        Ok(false)
    }

    /// Removes what stands before `first` in a partition, as retention would ([`Need::Forget`]). Answers whether it can.
    ///
    /// # Errors
    /// If it can, and failed.
    async fn forget(&self, topic: &str, partition: u32, first: Position) -> Result<bool, BoxError> {
        let _ = (topic, partition, first);
        Ok(false)
    }
}

/// The processes of a cluster.
#[async_trait]
pub trait Server: Send + Sync {
    /// Stops it as an operator would.
    ///
    /// # Errors
    /// If it does not stop.
    async fn stop(&self) -> Result<(), BoxError>;

    /// `kill -9`.
    ///
    /// # Errors
    /// If there is nothing to kill.
    async fn kill(&self) -> Result<(), BoxError>;

    /// Starts it again, with the data and at the address it had; returns when it is ready.
    ///
    /// # Errors
    /// If it does not start.
    async fn start(&self) -> Result<(), BoxError>;

    /// Freezes it.
    ///
    /// # Errors
    /// If there is nothing to freeze.
    async fn pause(&self) -> Result<(), BoxError>;

    /// Lets it go on.
    ///
    /// # Errors
    /// If there is nothing to go on.
    async fn resume(&self) -> Result<(), BoxError>;

    /// Brings it back from whatever was done to it; returns when it is ready.
    ///
    /// # Errors
    /// If it does not come back.
    async fn restore(&self) -> Result<(), BoxError>;
}

/// A way to a cluster that can be harmed.
#[async_trait]
pub trait Route: Send + Sync {
    /// A new connection through it.
    ///
    /// # Errors
    /// If the cluster cannot be reached.
    async fn connect(&self) -> Result<Arc<dyn Broker>, Error>;

    /// The cluster's address through it.
    fn url(&self) -> String;

    /// From now on this, in place of what was before.
    fn harm(&self, harm: Harm);

    /// All is well again.
    fn heal(&self);
}

/// What can happen on the way to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Every open connection is reset, once.
    Reset,
    /// What the broker answers is held back; sockets stay open.
    MuteBroker,
    /// What clients send is held back; sockets stay open.
    MuteClients,
    /// Nothing passes and nobody is told; what is sent meanwhile is gone.
    BlackHole,
    /// Each direction takes this much longer.
    Slow(Duration),
    /// After so many more bytes from the broker the connection that carries the last of them is reset, once.
    CutAnswersAfter(u64),
}

/// Cuts a member of this process off from its cluster.
pub trait Sever: Send + Sync {
    /// From now on neither hears of the other.
    fn sever(&self);

    /// They do again.
    fn restore(&self);
}

/// What a test may need to do to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Need {
    /// To stop, kill and pause the broker.
    Server,
    /// To harm the way to it.
    Route,
    /// To freeze a member until the group has given its partitions away.
    Freeze,
    /// To give a topic more partitions.
    Grow,
    /// To remove messages as retention does.
    Forget,
    /// Members that are processes, so that one can be ended by its handler.
    Processes,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "a server",
            Self::Route => "a network",
            Self::Freeze => "members that can freeze",
            Self::Grow => "topics that grow",
            Self::Forget => "retention on demand",
            Self::Processes => "members in processes",
        })
    }
}

/// How patient tests are. The defaults are what the contract promises, and ample for what it does not.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Pace {
    /// How long anything may take that should happen soon; only a failing test waits for so long.
    pub patience: Duration,
    /// How soon a dead member's work goes on; 10 s.
    pub recovery: Duration,
    /// How soon a frozen member's work goes on; 15 s.
    pub frozen_recovery: Duration,
    /// How long one test may take.
    pub limit: Duration,
    /// Whether a member that is frozen for longer than any lease has lost what it owned, always. Kafka's classic protocol
    /// keeps one that waits in a rebalance (`ClassicGroupMember.hasSatisfiedHeartbeat`): then nobody else gets its
    /// partitions, and once it goes on they are its own under the same epoch.
    pub frozen_lose: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(30),
            recovery: Duration::from_secs(10),
            frozen_recovery: Duration::from_secs(15),
            limit: Duration::from_secs(120),
            frozen_lose: true,
        }
    }
}

impl Pace {
    /// With this limit for one test.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// A frozen member may keep what it owns.
    #[must_use]
    pub fn frozen_may_keep(mut self) -> Self {
        self.frozen_lose = false;
        self
    }

    /// With this patience.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}
