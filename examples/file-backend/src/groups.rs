//! Who has which partition: groups, their members, and how partitions pass from one member to another.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Duration;

use messaging::assignment::{Plan, Planned};
use messaging::{Name, PartitionHandle};

use crate::log::Progress;

/// A group that some member has joined.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) topics: Vec<Name>,
    pub(crate) shares: Vec<Share>,
    pub(crate) members: BTreeMap<u32, Member>,
}

/// A group's share in one partition.
#[derive(Debug)]
pub(crate) struct Share {
    /// Counted in the group's topics.
    pub(crate) topic: u32,
    pub(crate) partition: u32,
    pub(crate) progress: Progress,
    /// What the owner gets next.
    pub(crate) next: u64,
    /// Counts the owners.
    pub(crate) epoch: u64,
    pub(crate) owner: Option<Owner>,
    /// Which member is to have it.
    pub(crate) target: Option<u32>,
}

/// Who has a partition.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) member: u32,
    pub(crate) handle: PartitionHandle,
    /// It is giving the partition back, and gets nothing more.
    pub(crate) leaving: bool,
}

/// One consumer.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) topics: Vec<u32>,
    pub(crate) drain: Duration,
    /// It gives everything back by itself.
    pub(crate) closing: bool,
    pub(crate) waker: Option<Waker>,
}

impl Group {
    /// A topic's number in this group, which is new if it is.
    pub(crate) fn topic(&mut self, name: &Name) -> u32 {
        let index = self.topics.iter().position(|topic| topic == name).unwrap_or_else(|| {
            self.topics.push(name.clone());
            self.topics.len() - 1
        });
        index as u32
    }

    pub(crate) fn shares_of(&self, topic: &str) -> impl Iterator<Item = &Share> {
        self.shares.iter().filter(move |share| *self.topics[share.topic as usize] == *topic)
    }

    /// Plans who is to have what, and has everybody look at the plan.
    pub(crate) fn rebalance(&mut self) {
        let planned = |share: &Share| Planned {
            topic: share.topic,
            owner: share.owner.as_ref().map(|owner| owner.member),
            target: share.target,
        };
        let mut plan: Vec<Planned> = self.shares.iter().map(planned).collect();
        let takes = |member: &Member| if member.closing { Vec::new() } else { member.topics.clone() };
        let members: Vec<_> = self.members.iter().map(|(id, member)| (*id, takes(member))).collect();
        Plan::new(&mut plan, members.iter().map(|(id, topics)| (*id, topics.as_slice()))).make();
        for (share, planned) in self.shares.iter_mut().zip(plan) {
            share.target = planned.target;
        }
        self.wake();
    }

    /// Has every member look again.
    pub(crate) fn wake(&mut self) {
        for member in self.members.values_mut() {
            if let Some(waker) = member.waker.take() {
                waker.wake();
            }
        }
    }

    /// The member will close: what it has is for others once it gives it back.
    pub(crate) fn close_soon(&mut self, member: u32) {
        if let Some(member) = self.members.get_mut(&member) {
            member.closing = true;
        }
        for owner in self.shares.iter_mut().filter_map(|share| share.owner.as_mut()) {
            owner.leaving |= owner.member == member;
        }
        self.rebalance();
    }

    /// The member is gone, and has nothing any more.
    pub(crate) fn leave(&mut self, member: u32) {
        if self.members.remove(&member).is_some() {
            for share in &mut self.shares {
                share.owner = share.owner.take().filter(|owner| owner.member != member);
            }
            self.rebalance();
        }
    }

    /// What a member knows by this handle.
    pub(crate) fn held(&mut self, member: u32, handle: PartitionHandle) -> Option<&mut Share> {
        self.shares
            .iter_mut()
            .find(|share| share.owner.as_ref().is_some_and(|owner| owner.member == member && owner.handle == handle))
    }
}
