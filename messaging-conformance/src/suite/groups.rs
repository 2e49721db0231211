//! Groups: each gets everything, its instances share it, it goes on where it stopped.

use std::time::Duration;

use super::{Promise, World, promise};
use crate::{
    checker::Expectations,
    failure::{Checked, require},
    member::MemberPlan,
};

pub(super) fn promises() -> Vec<Promise> {
    vec![
        promise!("C2", every_group_gets_everything),
        promise!("C2", instances_of_a_group_share_the_work),
        promise!("C2", one_group_reads_two_topics),
        promise!("C2", a_group_goes_on_where_it_stopped),
    ]
}

async fn every_group_gets_everything(world: &World) -> Checked {
    let topic = world.topic("letters", 4).await?;
    let groups = ["one", "two", "three"].map(|name| world.name(name));
    let mut members = Vec::new();
    for group in &groups {
        members.push(world.member(&MemberPlan::new(group, &[&topic])).await?);
    }
    let sender = world.sender().await?;
    sender.publish_all(&world.letters(&topic, 300, 17)).await?;
    let mut expectations = Expectations::new();
    for group in &groups {
        world.handled(group, 300).await?;
        expectations = expectations.group(world.owed(group, &[&topic]).drained());
    }
    for (member, group) in members.into_iter().zip(&groups) {
        member.stop(world.pace.patience).await?;
        world.drained(group, &[&topic]).await?;
    }
    sender.close().await?;
    world.judge(expectations).map(drop)
}

async fn instances_of_a_group_share_the_work(world: &World) -> Checked {
    let topic = world.topic("letters", 12).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).concurrency(4);
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(world.member(&plan).await?);
    }
    let sender = world.sender().await?;
    // Until everyone has had something: joining takes a backend as long as it takes.
    let mut published = 0;
    let all_work = || world.log.look(|tally| members.iter().all(|one| tally.group(&group).handled_by(&one.name) > 0));
    while published == 0 || !all_work() {
        let letters = world.letters(&topic, 200, 60).into_iter().map(|letter| letter.work(Duration::from_millis(1)));
        sender.publish_all(&letters.collect::<Vec<_>>()).await?;
        published += 200;
        require!(published < 20_000, "after {published} messages not every instance has had one");
        world.handled(&group, published).await?;
    }
    for member in members {
        member.stop(world.pace.patience).await?;
    }
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(4).drained()).map(drop)
}

async fn one_group_reads_two_topics(world: &World) -> Checked {
    let (first, second) = (world.topic("first", 3).await?, world.topic("second", 5).await?);
    let group = world.name("readers");
    let member = world.member(&MemberPlan::new(&group, &[&first, &second])).await?;
    let sender = world.sender().await?;
    // The same keys on both: lanes of their own.
    let letters = [world.letters(&first, 200, 10), world.letters(&second, 200, 10)].concat();
    sender.publish_all(&world.shuffled(letters)).await?;
    world.handled(&group, 400).await?;
    member.stop(world.pace.patience).await?;
    world.drained(&group, &[&first, &second]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&first, &second]).drained()).map(drop)
}

async fn a_group_goes_on_where_it_stopped(world: &World) -> Checked {
    let topic = world.topic("letters", 4).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]);
    let sender = world.sender().await?;
    for round in 1..=3 {
        let member = world.member(&plan).await?;
        // Half of it while the group is away, from the second round on.
        sender.publish_all(&world.letters(&topic, 50, 10)).await?;
        world.handled(&group, 100 * round - 50).await?;
        member.stop(world.pace.patience).await?;
        sender.publish_all(&world.letters(&topic, 50, 10)).await?;
    }
    let member = world.member(&plan).await?;
    world.handled(&group, 300).await?;
    member.stop(world.pace.patience).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).repeats(crate::checker::Repeats::Never).drained()).map(drop)
}
