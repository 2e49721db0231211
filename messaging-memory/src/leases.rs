//! Leases: a consumer has its partitions for a while at a time, and loses them when it was not heard of for that long.
//!
//! There is no task that watches: each consumer that is polled renews its own lease, looks at those of its group, and
//! sets a timer for the next look.

use messaging::{Intake, PartitionHandle, Tick};

use crate::{bus::State, effects::Effects, members::News};

impl State {
    /// Takes from the members of a group what they have longer than their leases, and lets `member`, who is heard of,
    /// in again.
    pub(crate) fn expire(&mut self, member: u32, now: Tick, effects: &mut Effects) {
        let Some(lease) = self.settings.lease else { return };
        let Some(group) = self.members[member as usize].as_ref().map(|member| member.group) else { return };
        let mut changed = false;
        for id in self.groups[group as usize].members.clone() {
            let Some(state) = &mut self.members[id as usize] else { continue };
            if state.valid_until <= now && !std::mem::replace(&mut state.expired, true) {
                changed = true;
                self.take_unasked(id, effects);
            }
        }
        if let Some(state) = &mut self.members[member as usize]
            && std::mem::take(&mut state.expired)
        {
            changed = true;
            (state.renewed, state.valid_until) = (now, now + lease);
        }
        if changed {
            self.rebalance(group, effects);
        }
    }

    /// Takes everything from a member that learns so only afterwards.
    pub(crate) fn take_unasked(&mut self, member: u32, effects: &mut Effects) {
        let known = self.handles_of(member);
        self.take_everything(member, effects);
        for handle in known {
            self.tell(member, News::Lost(handle), effects);
        }
    }

    /// Renews a member's lease if it is due.
    pub(crate) fn renew(&mut self, member: u32, now: Tick, intake: &mut Intake<'_>) {
        let Some(lease) = self.settings.lease else { return };
        let Some(state) = &mut self.members[member as usize] else { return };
        if now.since(state.renewed) < lease / 3 {
            return;
        }
        (state.renewed, state.valid_until) = (now, now + lease);
        let valid_until = state.valid_until;
        for handle in self.handles_of(member) {
            intake.renewed(handle, valid_until);
        }
    }

    /// When a member has its own lease to renew, or another's may have passed.
    pub(crate) fn next_look(&self, member: u32) -> Option<Tick> {
        let lease = self.settings.lease?;
        let state = self.members[member as usize].as_ref().filter(|state| !state.silent)?;
        let others = self.groups[state.group as usize].members.iter().filter(|id| **id != member);
        let others = others.filter_map(|id| self.members[*id as usize].as_ref()).filter(|other| !other.expired);
        others.map(|other| other.valid_until).chain([state.renewed + lease / 3]).min()
    }

    /// The handles by which a member's executor knows its partitions.
    fn handles_of(&self, member: u32) -> Vec<PartitionHandle> {
        let Some(state) = &self.members[member as usize] else { return Vec::new() };
        let cursors = state.handles.iter().flatten().map(|cursor| &self.cursors[*cursor as usize]);
        cursors.filter(|cursor| cursor.owner == Some(member)).filter_map(|cursor| cursor.handle).collect()
    }
}
