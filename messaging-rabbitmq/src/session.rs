//! [`Session`]: the task behind a consumer: joins the group, consumes the partitions that are its own, acknowledges what
//! was finished; and begins anew when the connection is lost.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lapin::types::ShortString;
use messaging::{Error, ErrorKind, Subscription, handoff::Sender};

use crate::{
    announcer::Announcer,
    connected::{Connected, End},
    consumer::{Desk, Leave, News},
    joined::Joined,
    link::Links,
    membership::Membership,
    names,
    partitions::{Partitions, Place},
};

/// How long to wait before a lost connection is tried again, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What outlives a connection.
pub(crate) struct Session {
    links: Arc<Links>,
    pub(crate) announcer: Arc<Announcer>,
    pub(crate) subscription: Subscription,
    pub(crate) desk: Arc<Desk>,
    pub(crate) news: Sender<News>,
    pub(crate) membership: Membership,
    pub(crate) places: Arc<[Place]>,
    pub(crate) partitions: Partitions,
    pub(crate) exchange: ShortString,
}

/// A member's name from the system's time.
pub(crate) fn member_name() -> String {
    Membership::name_now(u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX))
}

pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Session {
    pub(crate) fn new(
        links: Arc<Links>,
        announcer: Arc<Announcer>,
        subscription: Subscription,
        member: String,
        places: Vec<Place>,
        (desk, news): (Arc<Desk>, Sender<News>),
    ) -> Result<Self, Error> {
        let exchange = names::members_exchange(&subscription.group)?;
        let mut topics: BTreeMap<String, u32> = BTreeMap::new();
        for place in &places {
            *topics.entry(place.topic.to_string()).or_default() += 1;
        }
        let membership = Membership::new(member, topics);
        let places: Arc<[Place]> = places.into();
        let partitions = Partitions::new(places.clone());
        Ok(Self { links, announcer, subscription, desk, news, membership, places, partitions, exchange })
    }

    /// Runs until the consumer leaves.
    pub(crate) async fn run(mut self, joined: Joined) {
        let mut joined = Some(joined);
        let mut backoff = BACKOFF.0;
        let result = loop {
            let reason = match joined.take() {
                Some(joined) => match Connected::new(&mut self, joined).run().await {
                    End::Left(result) => break result,
                    End::Lost(error) => {
                        backoff = BACKOFF.0;
                        error
                    }
                },
                None => match self.rejoin().await {
                    Ok(again) => {
                        joined = Some(again);
                        continue;
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::Config | ErrorKind::Unsupported) => {
                        break Err(error);
                    }
                    Err(error) => error,
                },
            };
            let group = &self.subscription.group;
            tracing::warn!(%group, error = %reason.duplicate(), "the consumer has no connection; trying again");
            let leave = self.wait_or_leave(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
            if leave.is_some() {
                // Every partition was reported lost with the connection, so that nothing is left to be settled.
                break Ok(());
            }
        };
        self.news.send_one(News::Closed(result));
    }

    async fn rejoin(&mut self) -> Result<Joined, Error> {
        // Whoever refuses us now had let us in before, and may again.
        let passing = |error: Error| Error::new(ErrorKind::Unavailable, error.duplicate().to_string());
        let link = Joined::connect(&self.links, &self.subscription).await.map_err(passing)?;
        let (joined, places) = Joined::new(link, &self.links, &self.subscription, self.membership.name()).await?;
        let same = places.len() == self.places.len()
            && places
                .iter()
                .zip(&*self.places)
                .all(|(now, before)| (&now.queue, now.prefetch) == (&before.queue, before.prefetch));
        if same {
            return Ok(joined);
        }
        let topics = self.subscription.topics.join(", ");
        Err(Error::new(ErrorKind::Config, format!("a topic was made anew with other numbers: one of {topics}")))
    }

    /// Waits before the next try; not if the consumer leaves.
    async fn wait_or_leave(&mut self, pause: Duration) -> Option<Leave> {
        let leave = async {
            loop {
                let changed = self.desk.changed.notified();
                if let Some(leave) = self.desk.orders.lock().leave {
                    return leave;
                }
                changed.await;
            }
        };
        tokio::time::timeout(pause, leave).await.ok()
    }
}
