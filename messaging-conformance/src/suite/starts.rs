//! Where a group starts, what it is owed from then on, and what it is told when some of that is gone.

use messaging::{ErrorKind, Position};

use super::{Promise, World, promise};
use crate::{
    checker::Repeats,
    failure::{Checked, Failure, require},
    member::{MemberPlan, StartAt},
};

pub(super) fn promises() -> Vec<Promise> {
    vec![
        promise!("starts", a_new_group_gets_the_oldest_there_is),
        promise!("starts", an_explicit_earliest_needs_history),
        promise!("starts", a_position_is_where_a_group_starts_or_is_refused),
        promise!("starts", latest_is_what_is_published_from_then_on),
        promise!("C2", a_group_that_has_read_nothing_loses_nothing),
        promise!("C2", partitions_that_are_added_are_read_from_their_beginning, [Grow]),
        promise!("C2", what_retention_took_is_reported_exactly, [Forget]),
    ]
}

async fn a_new_group_gets_the_oldest_there_is(world: &World) -> Checked {
    let topic = world.topic("letters", 3).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]);
    let sender = world.sender().await?;
    let before = sender.publish_all(&world.letters(&topic, 50, 10)).await?;
    let member = world.member(&plan).await?;
    let after = sender.publish_all(&world.letters(&topic, 50, 10)).await?;
    let history = world.capabilities().retains_history;
    world.handled(&group, if history { 100 } else { 50 }).await?;
    member.stop(world.pace.patience).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    // Where no history is kept, the oldest there is comes after the group's first declaration.
    let owed = before.iter().filter(|_| history).chain(&after).map(|sent| sent.id);
    world.judge(world.owed(&group, &[&topic]).only(owed).drained()).map(drop)
}

async fn an_explicit_earliest_needs_history(world: &World) -> Checked {
    let topic = world.topic("letters", 3).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).start(StartAt::Earliest);
    if !world.capabilities().retains_history {
        return refused(world, &plan).await;
    }
    let sender = world.sender().await?;
    sender.publish_all(&world.letters(&topic, 50, 10)).await?;
    let member = world.member(&plan).await?;
    world.handled(&group, 50).await?;
    member.stop(world.pace.patience).await?;
    // Once it has progress, it goes on from there.
    sender.publish_all(&world.letters(&topic, 20, 10)).await?;
    let member = world.member(&plan).await?;
    world.handled(&group, 70).await?;
    member.stop(world.pace.patience).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).repeats(Repeats::Never).drained()).map(drop)
}

/// The plan is refused because the backend keeps no history.
async fn refused(world: &World, plan: &MemberPlan) -> Checked {
    let messaging = world.messaging().await?;
    let router = plan.bare_router().on_message(plan.topics[0].as_str(), || async {});
    let Err(error) = messaging.run_one(router).await else {
        return Err(Failure::new("a start in history was accepted by a backend that keeps none"));
    };
    require!(error.kind() == ErrorKind::Unsupported, "the error's kind is {:?}: {error}", error.kind());
    require!(error.to_string().contains("retains_history"), "the error does not name the capability: {error}");
    Ok(messaging.close(world.pace.patience).await?)
}

async fn a_position_is_where_a_group_starts_or_is_refused(world: &World) -> Checked {
    let topic = world.topic("letters", 1).await?;
    let group = world.name("readers");
    let sender = world.sender().await?;
    let sent = sender.publish_all(&world.letters(&topic, 50, 10)).await?;
    let place = sent[20].receipt.position.unwrap_or_default();
    let start = StartAt::Position { major: place.major, minor: place.minor };
    let plan = MemberPlan::new(&group, &[&topic]).start(start);
    if !world.capabilities().retains_history {
        return refused(world, &plan).await;
    }
    let member = world.member(&plan).await?;
    world.handled(&group, 30).await?;
    member.stop(world.pace.patience).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    let early = sent[..20].iter().find(|sent| world.log.look(|tally| tally.group(&group).has_started(sent.id)));
    require!(early.is_none(), "message {:?} stands before the start", early.map(|sent| sent.id));
    world.judge(world.owed(&group, &[&topic]).only(sent[20..].iter().map(|sent| sent.id)).drained()).map(drop)
}

async fn latest_is_what_is_published_from_then_on(world: &World) -> Checked {
    let topic = world.topic("letters", 3).await?;
    let group = world.name("readers");
    let sender = world.sender().await?;
    let before = sender.publish_all(&world.letters(&topic, 50, 10)).await?;
    let member = world.member(&MemberPlan::new(&group, &[&topic]).start(StartAt::Latest)).await?;
    world.started(&group, &topic, 3).await?;
    let after = sender.publish_all(&world.letters(&topic, 50, 10)).await?;
    world.handled(&group, 50).await?;
    member.stop(world.pace.patience).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    let early = before.iter().find(|sent| world.log.look(|tally| tally.group(&group).has_started(sent.id)));
    require!(early.is_none(), "message {:?} was there before", early.map(|sent| sent.id));
    world.judge(world.owed(&group, &[&topic]).only(after.iter().map(|sent| sent.id)).drained()).map(drop)
}

async fn a_group_that_has_read_nothing_loses_nothing(world: &World) -> Checked {
    let topic = world.topic("letters", 3).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).start(StartAt::Latest);
    let sender = world.sender().await?;
    sender.publish_all(&world.letters(&topic, 20, 10)).await?;
    // Its start is resolved and kept, although it has read nothing.
    let member = world.member(&plan).await?;
    world.started(&group, &topic, 3).await?;
    member.stop(world.pace.patience).await?;
    let missed = sender.publish_all(&world.letters(&topic, 30, 10)).await?;
    let member = world.member(&plan).await?;
    world.handled(&group, 30).await?;
    member.stop(world.pace.patience).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).only(missed.iter().map(|sent| sent.id)).drained()).map(drop)
}

async fn partitions_that_are_added_are_read_from_their_beginning(world: &World) -> Checked {
    let topic = world.topic("letters", 2).await?;
    let group = world.name("readers");
    // Latest, which must not be what a partition starts at that is found later.
    let member = world.member(&MemberPlan::new(&group, &[&topic]).start(StartAt::Latest)).await?;
    world.started(&group, &topic, 2).await?;
    let sender = world.sender().await?;
    sender.publish_all(&world.letters(&topic, 40, 20)).await?;
    world.handled(&group, 40).await?;
    require!(world.cluster.grow(&topic, 6).await?, "the factory cannot grow a topic, and does not say so");
    // Published as soon as anyone may use the new ones. Other keys: those from before may have moved.
    let other = world.sender().await?;
    let mut published = 40;
    for round in 0.. {
        let letters = (0..40).map(|index| world.letter(&topic).key(format!("new-{round}-{}", index % 20)));
        let sent = other.publish_all(&letters.collect::<Vec<_>>()).await?;
        published += 40;
        if sent.iter().any(|sent| sent.receipt.partition >= 2) {
            break;
        }
        // A client learns of them when it asks for metadata the next time.
        world.handled(&group, published).await?;
        require!(round < 2_000, "nothing goes to the new partitions");
    }
    world.handled(&group, published).await?;
    member.stop(world.pace.patience).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    other.close().await?;
    world.judge(world.owed(&group, &[&topic]).drained()).map(drop)
}

async fn what_retention_took_is_reported_exactly(world: &World) -> Checked {
    let topic = world.topic("letters", 2).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]);
    let sender = world.sender().await?;
    let member = world.member(&plan).await?;
    sender.publish_all(&world.letters(&topic, 20, 10)).await?;
    world.handled(&group, 20).await?;
    member.stop(world.pace.patience).await?;
    let sent = sender.publish_all(&world.letters(&topic, 200, 50)).await?;
    let mut taken = 0;
    for partition in 0..2 {
        let mut positions: Vec<Position> = Vec::new();
        positions.extend(
            sent.iter().filter(|sent| sent.receipt.partition == partition).filter_map(|sent| sent.receipt.position),
        );
        positions.sort_unstable();
        let gone = positions.len() / 3;
        require!(gone > 0, "a partition got only {} messages", positions.len());
        let can = world.cluster.forget(&topic, partition, positions[gone]).await?;
        require!(can, "the factory cannot remove messages, and does not say so");
        taken += gone;
    }
    let member = world.member(&plan).await?;
    world.handled(&group, 220 - taken).await?;
    world.drained(&group, &[&topic]).await?;
    member.stop(world.pace.patience).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).lost(taken as u64).drained()).map(drop)
}

impl World {
    /// Waits until the broker knows the group on every partition: its start is resolved and kept.
    async fn started(&self, group: &str, topic: &str, partitions: usize) -> Checked {
        let admin = self.broker().admin();
        let known = async || Ok((admin.progress(group, topic).await?.len() == partitions).then_some(()));
        self.ask("the group's start is known on every partition", known).await
    }
}
