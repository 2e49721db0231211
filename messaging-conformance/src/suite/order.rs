//! Order within a lane, concurrency across lanes.

use std::time::Duration;

use super::{Letter, Promise, World, promise};
use crate::{
    failure::{Checked, require},
    member::MemberPlan,
    script::How,
};

pub(super) fn promises() -> Vec<Promise> {
    vec![
        promise!("C3a", lanes_are_in_order_on_one_instance),
        promise!("C3a", lanes_are_in_order_on_three_instances),
        promise!("C4", lanes_of_one_partition_run_at_once),
        promise!("C4", messages_without_a_key_run_at_once),
        promise!("C4", a_slow_lane_delays_only_itself),
    ]
}

/// Messages over few keys whose handlers take times by chance, some of them failing now and then.
fn restless(world: &World, topic: &str, count: usize, keys: usize) -> Vec<Letter> {
    let letters = world.letters(topic, count, keys).into_iter().map(|letter| {
        let (work, fails) = world.random(|random| (random.u64(..3_000), random.u32(..20) == 0));
        let letter = letter.work(Duration::from_micros(work));
        if fails { letter.fails_first(How::Transient, 1) } else { letter }
    });
    letters.collect()
}

async fn lanes_are_in_order_on_one_instance(world: &World) -> Checked {
    in_order(world, 1).await
}

async fn lanes_are_in_order_on_three_instances(world: &World) -> Checked {
    in_order(world, 3).await
}

async fn in_order(world: &World, instances: usize) -> Checked {
    let topic = world.topic("letters", 6).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).concurrency(8);
    let mut members = Vec::new();
    for _ in 0..instances {
        members.push(world.member(&plan).await?);
    }
    let sender = world.sender().await?;
    for letters in restless(world, &topic, 1_500, 23).chunks(50) {
        sender.publish_all(letters).await?;
    }
    world.handled(&group, 1_500).await?;
    for member in members {
        member.stop(world.pace.patience).await?;
    }
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(8).drained()).map(drop)
}

async fn lanes_of_one_partition_run_at_once(world: &World) -> Checked {
    let topic = world.topic("letters", 1).await?;
    let group = world.name("readers");
    let member = world.member(&MemberPlan::new(&group, &[&topic]).concurrency(16)).await?;
    let sender = world.sender().await?;
    // Two of each of twenty keys: sixteen first ones must run, and nothing else.
    let letters: Vec<_> = world.letters(&topic, 40, 20).into_iter().map(|letter| letter.gate("all")).collect();
    sender.publish_all(&letters).await?;
    world.until("16 run at once", &group, |seen| seen.running == 16).await?;
    world.gates.open("all");
    world.handled(&group, 40).await?;
    member.stop(world.pace.patience).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(16)).map(drop)
}

async fn messages_without_a_key_run_at_once(world: &World) -> Checked {
    let topic = world.topic("letters", 1).await?;
    let group = world.name("readers");
    let member = world.member(&MemberPlan::new(&group, &[&topic]).concurrency(16)).await?;
    let sender = world.sender().await?;
    let letters: Vec<_> = (0..40).map(|_| world.letter(&topic).gate("all")).collect();
    sender.publish_all(&letters).await?;
    world.until("16 run at once", &group, |seen| seen.running == 16).await?;
    world.gates.open("all");
    world.handled(&group, 40).await?;
    member.stop(world.pace.patience).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(16)).map(drop)
}

async fn a_slow_lane_delays_only_itself(world: &World) -> Checked {
    let topic = world.topic("letters", 1).await?;
    let group = world.name("readers");
    let member = world.member(&MemberPlan::new(&group, &[&topic]).concurrency(4)).await?;
    let sender = world.sender().await?;
    let mut letters = vec![world.letter(&topic).key("slow").gate("slow"), world.letter(&topic).key("slow")];
    letters.extend(world.letters(&topic, 500, 20));
    sender.publish_all(&letters).await?;
    world.handled(&group, 500).await?;
    let early = world.log.look(|tally| tally.group(&group).has_started(letters[1].id));
    require!(!early, "the second of the slow lane started before the first had ended");
    world.gates.open("slow");
    world.handled(&group, 502).await?;
    member.stop(world.pace.patience).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(4).drained()).map(drop)
}
