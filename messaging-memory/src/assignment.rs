//! Who has which partition: fair, sticky, and handed over only after the owner has let go.
//!
//! Each cursor has a *target*, who is to have the partition, and an *owner*, who has it. Planning moves targets and no
//! more of them than fairness needs; an owner that is not the target is asked to give back, and the target becomes the
//! owner once it has.

use messaging::assignment::{Plan, Planned};

use crate::{
    bus::State,
    cursor::Cursor,
    effects::Effects,
    members::{Member, News},
};

impl State {
    /// Adds a member to a group.
    pub(crate) fn join(&mut self, member: Member, effects: &mut Effects) -> u32 {
        let (id, group) = (self.members.len() as u32, member.group);
        self.members.push(Some(Box::new(member)));
        self.groups[group as usize].members.push(id);
        self.rebalance(group, effects);
        id
    }

    /// A consumer is gone: what it had is free at once, and what it had not settled is handed over again.
    pub(crate) fn leave(&mut self, member: u32, effects: &mut Effects) {
        let Some(group) = self.members[member as usize].as_ref().map(|member| member.group) else { return };
        self.take_everything(member, effects);
        self.members[member as usize] = None;
        self.groups[group as usize].members.retain(|id| *id != member);
        self.rebalance(group, effects);
    }

    /// A member will close: others are to have what it has, once it has drained it.
    pub(crate) fn close_soon(&mut self, member: u32, effects: &mut Effects) {
        let Some(state) = &mut self.members[member as usize] else { return };
        state.closing = true;
        let group = state.group;
        self.rebalance(group, effects);
    }

    /// A member has let a partition go, and the last of it is settled.
    pub(crate) fn released(&mut self, cursor: u32, effects: &mut Effects) {
        let given_up = !self.cursors[cursor as usize].revoking;
        self.take(cursor, effects);
        if given_up {
            self.retarget(cursor);
        }
        self.place(cursor, effects);
    }

    /// Asks the owner of a partition to give it back; another instance gets it then, or the same if there is no other.
    pub(crate) fn revoke(&mut self, cursor: u32, effects: &mut Effects) {
        let Some(owner) = self.cursors[cursor as usize].owner else { return };
        self.retarget(cursor);
        self.ask_back(cursor, owner, effects);
    }

    /// Takes away everything a member has.
    pub(crate) fn take_everything(&mut self, member: u32, effects: &mut Effects) {
        let Some(state) = &self.members[member as usize] else { return };
        for cursor in self.groups[state.group as usize].cursors.clone() {
            if self.cursors[cursor as usize].owner == Some(member) {
                self.take(cursor, effects);
            }
        }
    }

    /// Plans a group anew, and starts what follows from it.
    pub(crate) fn rebalance(&mut self, group: u32, effects: &mut Effects) {
        self.plan(group, |plan| plan.make());
        for cursor in self.groups[group as usize].cursors.clone() {
            self.place(cursor, effects);
        }
    }

    /// Plans a partition for another instance, if there is one.
    fn retarget(&mut self, cursor: u32) {
        let group = self.cursors[cursor as usize].group;
        let index = self.groups[group as usize].cursors.iter().position(|id| *id == cursor);
        if let Some(index) = index {
            self.plan(group, |plan| plan.move_away(index));
        }
    }

    fn plan(&mut self, group: u32, make: impl FnOnce(Plan<'_>)) {
        let Self { groups, cursors, members, .. } = self;
        let group = &groups[group as usize];
        let planned = group.cursors.iter().map(|id| {
            let Cursor { topic, owner, target, .. } = cursors[*id as usize];
            Planned { topic, owner, target }
        });
        let mut planned: Vec<Planned> = planned.collect();
        let members = group.members.iter().filter_map(|id| Some((*id, members[*id as usize].as_ref()?.takes())));
        make(Plan::new(&mut planned, members));
        for (id, planned) in group.cursors.iter().zip(planned) {
            cursors[*id as usize].target = planned.target;
        }
    }

    /// Brings a partition's owner nearer to its target.
    fn place(&mut self, cursor: u32, effects: &mut Effects) {
        let state = &self.cursors[cursor as usize];
        match (state.owner, state.target) {
            (None, Some(target)) => self.give(cursor, target, effects),
            (Some(owner), target) if target != Some(owner) => {
                if state.handle.is_none() {
                    // It was never told.
                    self.take(cursor, effects);
                    self.place(cursor, effects);
                } else {
                    self.ask_back(cursor, owner, effects);
                }
            }
            _ => {}
        }
    }

    fn give(&mut self, cursor: u32, member: u32, effects: &mut Effects) {
        let state = &mut self.cursors[cursor as usize];
        state.owner = Some(member);
        state.epoch += 1;
        self.tell(member, News::Assigned(cursor), effects);
    }

    fn ask_back(&mut self, cursor: u32, owner: u32, effects: &mut Effects) {
        let closing = self.members[owner as usize].as_ref().is_none_or(|member| member.closing);
        let state = &mut self.cursors[cursor as usize];
        state.listening = false;
        // One that closes gives everything back by itself, and at its own pace.
        if !std::mem::replace(&mut state.revoking, true) && !closing {
            self.tell(owner, News::Revoking(cursor), effects);
        }
    }

    /// The partition has no owner any more.
    pub(crate) fn take(&mut self, cursor: u32, effects: &mut Effects) {
        let state = &mut self.cursors[cursor as usize];
        let Some(owner) = state.owner.take() else { return };
        state.listening = false;
        state.revoking = false;
        let handle = state.handle.take();
        if let Some(member) = &mut self.members[owner as usize] {
            member.ready.retain(|ready| *ready != cursor);
            if let Some(handle) = handle {
                member.clear_handle(handle);
            }
        }
        // A new owner has nothing to do with what is buried.
        let buried = std::mem::take(&mut state.buried).len() as u64;
        self.pending -= buried;
        effects.settled(buried > 0 && self.pending == 0);
        self.lose_what_is_gone(cursor, effects);
        let state = &mut self.cursors[cursor as usize];
        state.next = state.progress.floor();
    }

    /// The cursor of a group on a partition.
    pub(crate) fn find_cursor(&self, group: &str, topic: &str, partition: u32) -> Option<u32> {
        let group = self.find_group(group)?;
        let topic = self.find_topic(topic)?;
        self.groups[group as usize].cursors.iter().copied().find(|id| {
            let cursor = &self.cursors[*id as usize];
            cursor.topic == topic && cursor.partition == partition
        })
    }
}
