//! One instance of a group: takes what it is to have, hands over what there is, notes what is done.

use std::sync::Arc;
use std::task::{Context, Poll};

use messaging::{Consumer, Error, ErrorKind, Intake, PartitionHandle, Position, Settlement, Start, Subscription};

use crate::groups::{Group, Member, Owner, Share};
use crate::log::Progress;
use crate::store::{Store, Topics, failed};

pub(crate) struct FileConsumer {
    store: Arc<Store>,
    subscription: Subscription,
    member: u32,
    /// What could not be written; the group ends with it.
    failure: Option<Error>,
}

impl FileConsumer {
    pub(crate) fn join(store: &Arc<Store>, subscription: &Subscription) -> Result<Self, Error> {
        let mut state = store.state.lock();
        state.members += 1;
        let member = state.members;
        let mut topics = Vec::new();
        for name in &subscription.topics {
            let ends: Vec<u64> =
                state.topics.get_or_create(store, name)?.partitions.iter().map(|log| log.end()).collect();
            let group = state.groups.entry(subscription.group.clone()).or_default();
            let topic = group.topic(name);
            topics.push(topic);
            for (partition, end) in (0..).zip(ends) {
                if group.shares.iter().any(|share| (share.topic, share.partition) == (topic, partition)) {
                    continue;
                }
                let start = match subscription.start {
                    Start::Default | Start::Earliest => 0,
                    Start::Latest => end,
                    Start::Position(position) => position.major.min(end),
                };
                let path = store.progress(name, &subscription.group, partition);
                let progress = Progress::open(path, start).map_err(failed)?;
                let (epoch, owner, target) = (store.epoch, None, None);
                group.shares.push(Share { topic, partition, progress, next: 0, epoch, owner, target });
            }
        }
        let group = state.groups.entry(subscription.group.clone()).or_default();
        let drain = subscription.revoke_drain;
        group.members.insert(member, Member { topics, drain, closing: false, waker: None });
        group.rebalance();
        drop(state);
        Ok(Self { store: store.clone(), subscription: subscription.clone(), member, failure: None })
    }

    fn with_group<R>(&self, act: impl FnOnce(&mut Group, &Topics) -> R) -> Option<R> {
        let state = &mut *self.store.state.lock();
        state.groups.get_mut(&self.subscription.group).map(|group| act(group, &state.topics))
    }

    fn leave(&self) {
        self.with_group(|group, _| group.leave(self.member));
    }
}

impl Consumer for FileConsumer {
    fn poll_fill(&mut self, cx: &mut Context<'_>, intake: &mut Intake<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = self.failure.take() {
            return Poll::Ready(Err(error));
        }
        let filled = self.with_group(|group, topics| {
            let Some(member) = group.members.get_mut(&self.member) else { return Ok(()) };
            member.waker = Some(cx.waker().clone());
            for share in &mut group.shares {
                let name = &group.topics[share.topic as usize];
                if share.owner.is_none() && share.target == Some(self.member) {
                    share.epoch += 1;
                    share.next = share.progress.floor;
                    let handle = intake.assigned(name, share.partition, share.epoch);
                    share.owner = Some(Owner { member: self.member, handle, leaving: false });
                }
                let Some(owner) = share.owner.as_mut().filter(|owner| owner.member == self.member) else { continue };
                if share.target != Some(self.member) && !std::mem::replace(&mut owner.leaving, true) {
                    intake.revoking(owner.handle, member.drain);
                }
                let Some(topic) = topics.get(name).filter(|_| !owner.leaving) else { continue };
                let log = &topic.partitions[share.partition as usize];
                while share.next < log.end() && intake.credit(owner.handle) > 0 {
                    if !share.progress.is_done(share.next) {
                        let message = log.read(name, share.next).map_err(failed)?;
                        intake.push(owner.handle, Position::new(share.next), Arc::new(message));
                    }
                    share.next += 1;
                }
            }
            Ok(())
        });
        match filled {
            Some(Err(error)) => Poll::Ready(Err(error)),
            Some(Ok(())) => Poll::Pending,
            None => Poll::Ready(Err(Error::new(ErrorKind::Closed, "the group is gone"))),
        }
    }

    fn settle(&mut self, settlement: Settlement<'_>) {
        let settled = self.with_group(|group, _| {
            let share = group.held(self.member, settlement.partition);
            let Some(share) = share.filter(|share| share.epoch == settlement.epoch) else { return Ok(()) };
            share.progress.settle(settlement.finished.iter().map(|position| position.major))
        });
        if let Some(Err(error)) = settled {
            self.failure = Some(failed(error));
        }
    }

    fn release(&mut self, partition: PartitionHandle) {
        self.with_group(|group, _| {
            if let Some(share) = group.held(self.member, partition) {
                share.owner = None;
            }
            group.wake();
        });
    }

    fn begin_close(&mut self) {
        self.with_group(|group, _| group.close_soon(self.member));
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.leave();
        Poll::Ready(self.failure.take().map_or(Ok(()), Err))
    }
}

impl Drop for FileConsumer {
    fn drop(&mut self) {
        self.leave();
    }
}
