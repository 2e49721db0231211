//! Stopping repeats nothing and loses nothing, whatever state a group is in.

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::{
    Promise, World,
    handover::{all_handled, handles},
    load::Load,
    obstructed::Obstructed,
    promise,
};
use crate::{
    checker::Repeats,
    failure::{Checked, require},
    member::MemberPlan,
    script::How,
};

pub(super) fn promises() -> Vec<Promise> {
    vec![
        promise!("C7", a_graceful_stop_under_load_repeats_nothing),
        promise!("C7", a_stop_with_a_parked_lane_repeats_nothing),
        promise!("C7", a_hand_over_with_a_parked_lane_repeats_nothing),
        promise!("C7", a_stop_while_dead_letters_are_refused_repeats_nothing),
        promise!("C7", a_stop_drops_what_outlasts_its_drain),
        promise!("C7", all_members_stop_at_once),
        promise!("C7", an_idle_group_stops_soon),
        promise!("C5", dead_letters_wait_until_they_get_through),
        promise!("C5", a_dead_letter_that_is_refused_for_good_makes_its_partition_stuck),
    ]
}

const DRAIN: Duration = Duration::from_secs(5);
/// A pause that no test outlives.
const FOR_EVER: Duration = Duration::from_secs(600);

async fn a_graceful_stop_under_load_repeats_nothing(world: &World) -> Checked {
    let topic = world.topic("letters", 6).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).concurrency(8);
    world.subscribe(&plan).await?;
    let sender = world.sender().await?;
    let lives = async {
        for _ in 0..5 {
            let member = world.member(&plan).await?;
            let some = world.random(|random| random.usize(1..120));
            handles(world, &group, &member, some).await?;
            member.stop(DRAIN).await?;
        }
        Ok(())
    };
    Load::new(world, &sender, &topic, 30).during(lives).await?;
    let last = world.member(&plan).await?;
    all_handled(world, &group).await?;
    last.stop(DRAIN).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(8).repeats(Repeats::Never).drained()).map(drop)
}

/// Five hundred keys, two messages each; one key fails once and is parked for ever.
async fn with_a_parked_lane(world: &World, handing_over: bool) -> Checked {
    let topic = world.topic("letters", 4).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).backoff(FOR_EVER);
    let first = world.member(&plan).await?;
    let sender = world.sender().await?;
    let mut letters = world.letters(&topic, 1_000, 500);
    // Near the front, so that the watermark of its partition stays behind nearly everything.
    letters[3] = letters[3].clone().fails_first(How::Transient, 1);
    sender.publish_all(&letters).await?;
    world.handled(&group, 998).await?;
    let plan = plan.backoff(Duration::from_millis(20));
    if handing_over {
        let second = world.member(&plan).await?;
        let third = world.member(&plan).await?;
        // Whoever gets the partition; or nobody, and then it comes back with the stop.
        first.stop(DRAIN).await?;
        world.handled(&group, 1_000).await?;
        second.stop(DRAIN).await?;
        third.stop(DRAIN).await?;
    } else {
        first.stop(DRAIN).await?;
        let second = world.member(&plan).await?;
        world.handled(&group, 1_000).await?;
        second.stop(DRAIN).await?;
    }
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).repeats(Repeats::Never).drained()).map(drop)
}

async fn a_stop_with_a_parked_lane_repeats_nothing(world: &World) -> Checked {
    with_a_parked_lane(world, false).await
}

async fn a_hand_over_with_a_parked_lane_repeats_nothing(world: &World) -> Checked {
    with_a_parked_lane(world, true).await
}

async fn a_stop_while_dead_letters_are_refused_repeats_nothing(world: &World) -> Checked {
    let topic = world.topic("letters", 2).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).attempts(2);
    let (broker, obstacle) = Obstructed::around(world.cluster.connect().await?);
    obstacle.keep_away();
    let first = world.member_on(broker, &plan).await?;
    let sender = world.sender().await?;
    let mut letters = world.letters(&topic, 200, 100);
    // Once everything else is through: what cannot be buried pauses the intake of its partition.
    letters[2] = letters[2].clone().gate("poison").fails(How::Transient);
    sender.publish_all(&letters).await?;
    // Everything but the poison and what waits behind it.
    world.handled(&group, 198).await?;
    world.gates.open("poison");
    world.ask("a dead letter that does not get through", async || Ok((obstacle.met() > 0).then_some(()))).await?;
    let early = world.dead_letters(&group, &topic, 0).await?.len();
    require!(early == 0, "{early} dead letters although none got through");
    first.stop(DRAIN).await?;
    let second = world.member(&plan).await?;
    world.handled(&group, 199).await?;
    world.drained(&group, &[&topic]).await?;
    world.dead_letters(&group, &topic, 1).await?;
    second.stop(DRAIN).await?;
    sender.close().await?;
    let owed = world.owed(&group, &[&topic]).poison([(letters[2].id, Some(2))]);
    world.judge(owed.repeats(Repeats::Never).drained()).map(drop)
}

async fn a_stop_drops_what_outlasts_its_drain(world: &World) -> Checked {
    let topic = world.topic("letters", 2).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]);
    let first = world.member(&plan).await?;
    let sender = world.sender().await?;
    let letters: Vec<_> = world.letters(&topic, 100, 50);
    let gated = letters.into_iter().enumerate().map(|(index, letter)| match index {
        0..5 => letter.gate("late"),
        _ => letter,
    });
    sender.publish_all(&gated.collect::<Vec<_>>()).await?;
    // All but the five and what waits behind them.
    world.handled(&group, 90).await?;
    world.until("five run", &group, |seen| seen.running == 5).await?;
    let began = Instant::now();
    first.stop(Duration::from_millis(300)).await?;
    let took = began.elapsed();
    require!(took >= Duration::from_millis(300), "the stop did not wait for its drain: {took:?}");
    require!(took < Duration::from_secs(8), "the stop took {took:?} with a drain of 300 ms");
    world.until("none runs", &group, |seen| seen.running == 0).await?;
    world.gates.open("late");
    let second = world.member(&plan).await?;
    world.handled(&group, 100).await?;
    second.stop(DRAIN).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).repeats(Repeats::Never).drained()).map(drop)
}

async fn all_members_stop_at_once(world: &World) -> Checked {
    let topic = world.topic("letters", 6).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).concurrency(4);
    let sender = world.sender().await?;
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(world.member(&plan).await?);
    }
    let letters = world.letters(&topic, 900, 60).into_iter().map(|letter| letter.work(Duration::from_millis(2)));
    sender.publish_all(&letters.collect::<Vec<_>>()).await?;
    world.handled(&group, 200).await?;
    for stopped in join_all(members.into_iter().map(|member| member.stop(DRAIN))).await {
        stopped?;
    }
    let last = world.member(&plan).await?;
    all_handled(world, &group).await?;
    last.stop(DRAIN).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(4).repeats(Repeats::Never).drained()).map(drop)
}

async fn an_idle_group_stops_soon(world: &World) -> Checked {
    let topic = world.topic("letters", 3).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]);
    // One that has had nothing yet, perhaps not even a partition.
    let began = Instant::now();
    world.member(&plan).await?.stop(DRAIN).await?;
    let took = began.elapsed();
    require!(took < Duration::from_secs(15), "joining and stopping took {took:?}");
    let member = world.member(&plan).await?;
    let sender = world.sender().await?;
    sender.publish_all(&world.letters(&topic, 10, 5)).await?;
    world.handled(&group, 10).await?;
    world.drained(&group, &[&topic]).await?;
    let began = Instant::now();
    member.stop(DRAIN).await?;
    let took = began.elapsed();
    require!(took < DRAIN, "an idle group took {took:?} to stop");
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).drained()).map(drop)
}

async fn dead_letters_wait_until_they_get_through(world: &World) -> Checked {
    let topic = world.topic("letters", 2).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).attempts(2);
    let (broker, obstacle) = Obstructed::around(world.cluster.connect().await?);
    obstacle.keep_away();
    let member = world.member_on(broker, &plan).await?;
    let sender = world.sender().await?;
    let mut letters = world.letters(&topic, 60, 30);
    // Once everything else is through: what cannot be buried pauses the intake of its partition.
    letters[2] = letters[2].clone().gate("poison").fails(How::Transient);
    letters[3] = letters[3].clone().gate("poison").fails(How::Permanent);
    sender.publish_all(&letters).await?;
    world.handled(&group, 56).await?;
    world.gates.open("poison");
    world.ask("several tries", async || Ok((obstacle.met() > 5).then_some(()))).await?;
    // Unsettled all the while, and what is behind them waits.
    let lag = world.lag(&group, &topic).await?;
    require!(lag >= 4, "{lag} are unsettled, four must be");
    obstacle.clear();
    world.handled(&group, 58).await?;
    world.drained(&group, &[&topic]).await?;
    world.dead_letters(&group, &topic, 2).await?;
    member.stop(DRAIN).await?;
    sender.close().await?;
    let poison = [(letters[2].id, Some(2)), (letters[3].id, Some(1))];
    world.judge(world.owed(&group, &[&topic]).poison(poison).drained()).map(drop)
}

async fn a_dead_letter_that_is_refused_for_good_makes_its_partition_stuck(world: &World) -> Checked {
    let topic = world.topic("letters", 2).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).attempts(1);
    let (broker, obstacle) = Obstructed::around(world.cluster.connect().await?);
    obstacle.refuse();
    let first = world.member_on(broker, &plan).await?;
    let sender = world.sender().await?;
    let mut letters = world.letters(&topic, 40, 20);
    letters[2] = letters[2].clone().gate("poison").fails(How::Transient);
    sender.publish_all(&letters).await?;
    world.handled(&group, 38).await?;
    world.gates.open("poison");
    world
        .ask("it is told that something is stuck", async || {
            let health = first.running()?.health();
            Ok((health.stuck_partitions == 1 && !health.is_good()).then_some(()))
        })
        .await?;
    let tries = obstacle.met();
    require!(tries >= 4, "a refused dead letter is made smaller three times, and was tried {tries} times");
    let lag = world.lag(&group, &topic).await?;
    require!(lag >= 2, "{lag} are unsettled, two must be");
    first.stop(DRAIN).await?;
    // Where dead letters get through, it ends as it should.
    let second = world.member(&plan).await?;
    world.handled(&group, 39).await?;
    world.drained(&group, &[&topic]).await?;
    world.dead_letters(&group, &topic, 1).await?;
    second.stop(DRAIN).await?;
    sender.close().await?;
    let owed = world.owed(&group, &[&topic]).poison([(letters[2].id, Some(1))]);
    world.judge(owed.repeats(Repeats::Never).drained()).map(drop)
}
