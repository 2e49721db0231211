//! What is held between the broker and the handlers is bounded: by number, by bytes, by how far a partition gets ahead.

use std::time::Duration;

use messaging::telemetry;

use super::{Promise, World, promise};
use crate::{
    failure::{Checked, require},
    member::MemberPlan,
    metering,
    script::How,
};

pub(super) fn promises() -> Vec<Promise> {
    vec![
        promise!("C11", what_is_in_flight_is_bounded_by_number),
        promise!("C11", what_is_in_flight_is_bounded_by_bytes),
        promise!("C11", a_partition_does_not_run_far_ahead_of_its_oldest),
        promise!("C5", a_parked_head_that_fills_half_the_span_is_dead_lettered),
        promise!("C5", a_head_that_fails_once_the_span_is_full_is_dead_lettered),
    ]
}

async fn what_is_in_flight_is_bounded_by_number(world: &World) -> Checked {
    let topic = world.topic("letters", 3).await?;
    let group = world.name("readers");
    let mut plan = MemberPlan::new(&group, &[&topic]).concurrency(8);
    plan.max_in_flight = 40;
    let member = world.member(&plan).await?;
    let sender = world.sender().await?;
    let letters: Vec<_> = world.letters(&topic, 1_000, 100).into_iter().map(|letter| letter.gate("all")).collect();
    sender.publish_all(&letters).await?;
    world.until("8 run", &group, |seen| seen.running == 8).await?;
    let full = || metering::gauge(telemetry::IN_FLIGHT, &group) >= 40.0;
    world.ask("it is full", async || Ok(full().then_some(()))).await?;
    let held = metering::gauge(telemetry::IN_FLIGHT, &group);
    require!(held <= 40.0, "{held} are in flight, 40 may be");
    world.gates.open("all");
    world.handled(&group, 1_000).await?;
    member.stop(world.pace.patience).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(8).drained()).map(drop)
}

async fn what_is_in_flight_is_bounded_by_bytes(world: &World) -> Checked {
    const SIZE: usize = 100_000;
    let topic = world.topic("letters", 1).await?;
    let group = world.name("readers");
    let mut plan = MemberPlan::new(&group, &[&topic]).concurrency(4);
    plan.max_in_flight_bytes = 10 * SIZE;
    let probe = world.name("probe");
    world.subscribe(&MemberPlan::new(&probe, &[&topic])).await?;
    let member = world.member(&plan).await?;
    let sender = world.sender().await?;
    // The first ones one by one, so that a fetch cannot be large before the bound is reached.
    let large = || world.letter(&topic).gate("all").payload(vec![1; SIZE]);
    for count in 1..=10 {
        sender.publish(&large()).await?;
        let taken = || metering::gauge(telemetry::IN_FLIGHT, &group) >= f64::from(count);
        world.ask("it is taken in", async || Ok(taken().then_some(()))).await?;
    }
    let letters: Vec<_> = (0..90).map(|_| large()).collect();
    sender.publish_all(&letters).await?;
    // Another group, which may hold them all, says when there was time enough to fetch more.
    let other = world.member(&MemberPlan::new(&probe, &[&topic])).await?;
    let all = || metering::gauge(telemetry::IN_FLIGHT, &probe) >= 100.0;
    world.ask("another group holds all", async || Ok(all().then_some(()))).await?;
    let held = metering::gauge(telemetry::IN_FLIGHT, &group);
    require!(held <= 10.0, "{held} messages of {SIZE} bytes are in flight, 10 may be");
    world.gates.open("all");
    world.handled(&group, 100).await?;
    world.handled(&probe, 100).await?;
    other.stop(world.pace.patience).await?;
    member.stop(world.pace.patience).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(4).drained()).map(drop)
}

async fn a_partition_does_not_run_far_ahead_of_its_oldest(world: &World) -> Checked {
    const SPAN: usize = 200;
    let topic = world.topic("letters", 1).await?;
    let group = world.name("readers");
    let mut plan = MemberPlan::new(&group, &[&topic]).concurrency(4);
    plan.max_span = SPAN;
    let probe = world.name("probe");
    world.subscribe(&MemberPlan::new(&probe, &[&topic])).await?;
    let member = world.member(&plan).await?;
    let sender = world.sender().await?;
    let mut letters = vec![world.letter(&topic).key("head").gate("head")];
    letters.extend(world.letters(&topic, 2_000, 20));
    sender.publish_all(&letters).await?;
    world.handled(&group, SPAN - 1).await?;
    // Another group, which may run ahead, says when there was time enough for more.
    let other = world.member(&MemberPlan::new(&probe, &[&topic])).await?;
    world.handled(&probe, 2_000).await?;
    let handled = world.log.look(|tally| tally.group(&group).distinct());
    require!(handled < SPAN, "{handled} were handled while the oldest was not, {SPAN} may be held");
    world.gates.open("head");
    world.handled(&group, 2_001).await?;
    world.handled(&probe, 2_001).await?;
    other.stop(world.pace.patience).await?;
    member.stop(world.pace.patience).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(4).drained()).map(drop)
}

async fn a_parked_head_that_fills_half_the_span_is_dead_lettered(world: &World) -> Checked {
    let (topic, group) = (world.topic("letters", 1).await?, world.name("readers"));
    let member = world.member(&impatient(&group, &topic)).await?;
    let sender = world.sender().await?;
    let head = world.letter(&topic).key("head").fails(How::Transient);
    sender.publish(&head).await?;
    world.until("the head fails", &group, |seen| seen.failed == 1).await?;
    sender.publish_all(&world.letters(&topic, 400, 20)).await?;
    sender.close().await?;
    dead_lettered_early(world, &group, &topic).await?;
    member.stop(world.pace.patience).await?;
    world.judge(world.owed(&group, &[&topic]).poison([(head.id, Some(1))]).drained()).map(drop)
}

async fn a_head_that_fails_once_the_span_is_full_is_dead_lettered(world: &World) -> Checked {
    let (topic, group) = (world.topic("letters", 1).await?, world.name("readers"));
    let member = world.member(&impatient(&group, &topic)).await?;
    let sender = world.sender().await?;
    let head = world.letter(&topic).key("head").gate("head").fails(How::Transient);
    sender.publish(&head).await?;
    sender.publish_all(&world.letters(&topic, 400, 20)).await?;
    sender.close().await?;
    world.handled(&group, SHORT_SPAN - 1).await?;
    world.gates.open("head");
    dead_lettered_early(world, &group, &topic).await?;
    member.stop(world.pace.patience).await?;
    world.judge(world.owed(&group, &[&topic]).poison([(head.id, Some(1))]).drained()).map(drop)
}

/// What lies between the watermark and the newest, with an [`impatient`] member.
const SHORT_SPAN: usize = 100;

/// A member that would wait ten minutes for a retry.
fn impatient(group: &str, topic: &str) -> MemberPlan {
    let mut plan = MemberPlan::new(group, &[topic]).concurrency(4).attempts(5).backoff(Duration::from_secs(600));
    plan.max_span = SHORT_SPAN;
    plan
}

async fn dead_lettered_early(world: &World, group: &str, topic: &str) -> Checked {
    world.handled(group, 400).await?;
    world.drained(group, &[topic]).await?;
    let dead = world.dead_letters(group, topic, 1).await?;
    let error = &dead[0].letter.error;
    // Why it had one attempt and not five, and what went wrong with it.
    require!(error.contains("ended early") && error.contains("as the script says"), "its error is {error:?}");
    require!(dead[0].letter.attempts == 1, "it had {} attempts", dead[0].letter.attempts);
    Ok(())
}
