//! What the groups have not settled, for [`Messaging::settled`](messaging::Messaging::settled).

use async_trait::async_trait;
use messaging::PendingWork;

use crate::bus::Bus;

#[async_trait]
impl PendingWork for Bus {
    fn pending(&self) -> usize {
        self.read(|state| usize::try_from(state.pending).unwrap_or(usize::MAX))
    }

    async fn idle(&self) {
        let notified = self.idle.notified();
        let mut notified = std::pin::pin!(notified);
        // In line before the look, so that no end of work falls between the two.
        notified.as_mut().enable();
        if self.pending() > 0 {
            notified.await;
        }
    }

    fn describe(&self) -> Vec<String> {
        self.read(|state| {
            let mut lines = Vec::new();
            for cursor in &state.cursors {
                let topic = &state.topics[cursor.topic as usize];
                let (pending, given) = cursor.pending(&topic.partitions[cursor.partition as usize].log);
                if pending > 0 {
                    let group = &state.groups[cursor.group as usize].name;
                    let owner = if cursor.owner.is_some() { "" } else { ", which no instance of the group has" };
                    lines.push(format!(
                        "group {group} has {pending} unsettled on {}/{} ({given} with an instance){owner}",
                        topic.name, cursor.partition
                    ));
                }
            }
            lines
        })
    }
}
