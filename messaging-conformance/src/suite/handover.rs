//! Partitions pass from one member to another: by joining and leaving, by death, by a freeze.

use std::time::Duration;

use super::{Promise, World, harm::publishing_goes_on, load::Load, promise};
use crate::{
    checker::{GroupExpectation, Repeats, Report},
    failure::{Checked, Failure, require},
    history::What,
    member::{Member, MemberPlan},
};

pub(super) fn promises() -> Vec<Promise> {
    vec![
        promise!("C3b", members_join_and_leave_under_load),
        promise!("C3b", members_are_replaced_one_by_one_under_load),
        promise!("C3b", an_unfinished_handler_is_dropped_when_its_partition_moves),
        promise!("C8", a_killed_members_work_goes_on),
        promise!("C4", nothing_unfinished_is_settled_whenever_a_member_dies),
        promise!("C3c", members_of_unequal_size_come_and_go),
        promise!("C3c", a_busy_frozen_owner_starts_nothing_more, [Freeze]),
        promise!("C3c", an_idle_frozen_owner_starts_nothing_more, [Freeze]),
    ]
}

const DRAIN: Duration = Duration::from_secs(5);

/// Waits until everything that is confirmed by now is handled.
pub(super) async fn all_handled(world: &World, group: &str) -> Checked {
    let left = world.log.look(|tally| tally.unhandled(group));
    let (count, left) = (left.len(), parking_lot::Mutex::new(left));
    let what = format!("the {count} confirmed messages that were left are handled");
    let handled = world.until(&what, group, |seen| {
        let mut left = left.lock();
        while left.pop_if(|id| seen.has_handled(*id)).is_some() {}
        left.is_empty()
    });
    handled.await.map_err(|failure| {
        // One of them was lost or dead-lettered if the others go on.
        let missing = world.log.look(|tally| tally.unhandled(group));
        let first = &missing[..missing.len().min(8)];
        Failure::new(format!("{failure}; {} are unhandled now, such as {first:?}", missing.len()))
    })
}

/// Waits until a member has handled so many more.
pub(super) async fn handles(world: &World, group: &str, member: &Member, more: usize) -> Checked {
    has_handled(world, group, member, handled_by(world, group, member) + more).await
}

fn handled_by(world: &World, group: &str, member: &Member) -> usize {
    world.log.look(|tally| tally.group(group).handled_by(&member.name))
}

/// Waits until a member has handled so many.
async fn has_handled(world: &World, group: &str, member: &Member, count: usize) -> Checked {
    let what = format!("{} has handled {count}", member.name);
    world.until(&what, group, |seen| seen.handled_by(&member.name) >= count).await
}

async fn members_join_and_leave_under_load(world: &World) -> Checked {
    let topic = world.topic("letters", 12).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).concurrency(8);
    let sender = world.sender().await?;
    let first = world.member(&plan).await?;
    let last = async {
        handles(world, &group, &first, 50).await?;
        let second = world.member(&plan).await?;
        handles(world, &group, &second, 50).await?;
        let third = world.member(&plan).await?;
        handles(world, &group, &third, 50).await?;
        first.stop(DRAIN).await?;
        handles(world, &group, &second, 50).await?;
        second.stop(DRAIN).await?;
        handles(world, &group, &third, 100).await?;
        Ok(third)
    };
    let last = Load::new(world, &sender, &topic, 40).heavy().during(last).await?;
    all_handled(world, &group).await?;
    last.stop(DRAIN).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(8).repeats(Repeats::Never).drained()).map(drop)
}

async fn members_are_replaced_one_by_one_under_load(world: &World) -> Checked {
    let topic = world.topic("letters", 12).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).concurrency(8);
    let sender = world.sender().await?;
    let mut members = vec![world.member(&plan).await?, world.member(&plan).await?];
    let rolling = async {
        for _ in 0..3 {
            members.push(world.member(&plan).await?);
            handles(world, &group, &members[members.len() - 1], 20).await?;
            members.remove(0).stop(DRAIN).await?;
        }
        Ok(())
    };
    Load::new(world, &sender, &topic, 40).heavy().during(rolling).await?;
    all_handled(world, &group).await?;
    for member in members {
        member.stop(DRAIN).await?;
    }
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(8).repeats(Repeats::Never).drained()).map(drop)
}

async fn an_unfinished_handler_is_dropped_when_its_partition_moves(world: &World) -> Checked {
    let topic = world.topic("letters", 2).await?;
    let group = world.name("readers");
    let mut plan = MemberPlan::new(&group, &[&topic]);
    plan.revoke_drain = Duration::from_millis(200);
    let sender = world.sender().await?;
    let first = world.member(&plan).await?;
    // On both partitions, with more of the same keys behind them.
    let letters: Vec<_> = world.letters(&topic, 24, 12).into_iter().map(|letter| letter.gate("all")).collect();
    sender.publish_all(&letters).await?;
    world.until("12 run", &group, |seen| seen.running == 12).await?;
    let second = world.member(&plan).await?;
    // What was cut short on the first starts on the second.
    world.until("the second has started", &group, |seen| seen.started_by(&second.name) > 0).await?;
    world.gates.open("all");
    all_handled(world, &group).await?;
    first.stop(DRAIN).await?;
    second.stop(DRAIN).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).repeats(Repeats::Never).drained()).map(drop)
}

async fn a_killed_members_work_goes_on(world: &World) -> Checked {
    let topic = world.topic("letters", 12).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).concurrency(8);
    let sender = world.sender().await?;
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(world.mortal(&plan).await?);
    }
    let killing = async {
        for member in &members {
            handles(world, &group, member, 20).await?;
        }
        for _ in 0..2 {
            members.remove(0).kill().await?;
            // So much that there is some of every partition: each is worked on again before the next member is killed.
            publishing_goes_on(world, 500).await?;
            all_handled(world, &group).await?;
            handles(world, &group, &members[0], 100).await?;
        }
        Ok(())
    };
    Load::new(world, &sender, &topic, 40).during(killing).await?;
    all_handled(world, &group).await?;
    for member in members {
        member.stop(DRAIN).await?;
    }
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    // What ran, and what was finished within the second in which settlements must have gone out.
    let repeats = Repeats::AtMost(2 * (8 + 250));
    let report = world.judge(world.owed(&group, &[&topic]).concurrency(8).repeats(repeats).drained())?;
    recovered(&report, 2, world.pace.recovery)
}

/// The work went on soon enough, after each of so many blows.
pub(super) fn recovered(report: &Report, blows: usize, within: Duration) -> Checked {
    let recoveries = &report.figures.recoveries;
    require!(recoveries.len() == blows, "{blows} blows, work of {} victims went on", recoveries.len());
    let slowest = recoveries.iter().max().copied().unwrap_or_default();
    require!(slowest <= within, "work went on after {:.1} s, not within {} s", slowest.as_secs_f64(), within.as_secs());
    Ok(())
}

async fn nothing_unfinished_is_settled_whenever_a_member_dies(world: &World) -> Checked {
    let topic = world.topic("letters", 3).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).concurrency(10);
    world.subscribe(&plan).await?;
    let sender = world.sender().await?;
    for round in 0..4 {
        let member = world.mortal(&plan).await?;
        // Some of which will not end in this member's life, with later ones of other keys that do.
        let letters = world.letters(&topic, 120, 24).into_iter().enumerate().map(|(index, letter)| {
            let work = world.random(|random| random.u64(..4_000));
            let letter = letter.work(Duration::from_micros(work));
            if index % 24 == round { letter.gate(&format!("gate-{round}")) } else { letter }
        });
        // It may be through before the last of them is known to be confirmed.
        let before = handled_by(world, &group, &member);
        sender.publish_all(&letters.collect::<Vec<_>>()).await?;
        let some = world.random(|random| random.usize(1..90));
        has_handled(world, &group, &member, before + some).await?;
        world.look_at_watermarks(&group, &topic).await?;
        member.kill().await?;
    }
    let mut member = world.mortal(&plan).await?;
    for round in 0..4 {
        member.open(&format!("gate-{round}")).await?;
    }
    all_handled(world, &group).await?;
    member.stop(DRAIN).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(10).drained()).map(drop)
}

async fn members_of_unequal_size_come_and_go(world: &World) -> Checked {
    let topic = world.topic("letters", 4).await?;
    let group = world.name("readers");
    let plan = |handlers| {
        let mut plan = MemberPlan::new(&group, &[&topic]).concurrency(handlers);
        // What a dead member leaves is mostly of the lanes that were parked then: in a window of a few, half of it may
        // be of one lane, whose head would be dead-lettered without its second attempt.
        plan.max_in_flight = 200 + 5 * handlers;
        plan
    };
    world.subscribe(&plan(1)).await?;
    let sender = world.sender().await?;
    let churn = async {
        // Two deaths on the same partitions, one soon after the other.
        let large = world.mortal(&plan(48)).await?;
        handles(world, &group, &large, 40).await?;
        let small = world.mortal(&plan(3)).await?;
        large.kill().await?;
        handles(world, &group, &small, 10).await?;
        let middle = world.mortal(&plan(16)).await?;
        small.kill().await?;
        handles(world, &group, &middle, 30).await?;
        // Then graceful leaves.
        let other = world.mortal(&plan(5)).await?;
        handles(world, &group, &other, 10).await?;
        middle.stop(DRAIN).await?;
        let last = world.mortal(&plan(24)).await?;
        handles(world, &group, &last, 10).await?;
        other.stop(DRAIN).await?;
        handles(world, &group, &last, 50).await?;
        Ok(last)
    };
    // Gaps: work by chance, and lanes that fail now and then.
    let load = Load::new(world, &sender, &topic, 60).work(Duration::from_millis(8)).failing(0.1);
    let last = load.during(churn).await?;
    all_handled(world, &group).await?;
    last.stop(DRAIN).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(48).drained()).map(drop)
}

async fn a_busy_frozen_owner_starts_nothing_more(world: &World) -> Checked {
    frozen(world, true).await
}

async fn an_idle_frozen_owner_starts_nothing_more(world: &World) -> Checked {
    frozen(world, false).await
}

async fn frozen(world: &World, busy: bool) -> Checked {
    const SLOTS: usize = 50;
    let topic = world.topic("letters", 8).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).concurrency(SLOTS);
    let sender = world.sender().await?;
    let mut victim = world.mortal(&plan).await?;
    let mut other = world.mortal(&plan).await?;
    // Both work: so the victim owns something.
    let both = async {
        handles(world, &group, &victim, 20).await?;
        handles(world, &group, &other, 20).await
    };
    Load::new(world, &sender, &topic, 60).during(both).await?;
    all_handled(world, &group).await?;
    if busy {
        // Every slot taken on both, and as much again in their windows.
        let letters = world.letters(&topic, 8 * SLOTS, 6 * SLOTS).into_iter().map(|letter| letter.gate("all"));
        let before = world.log.look(|tally| tally.group(&group).started_by(&victim.name));
        sender.publish_all(&letters.collect::<Vec<_>>()).await?;
        let full = before + SLOTS;
        world.until("the victim is busy", &group, |seen| seen.started_by(&victim.name) >= full).await?;
    }
    victim.freeze()?;
    other.open("all").await?;
    // While it is frozen: before the group knows, and after it has given its partitions away.
    sender.publish_all(&world.letters(&topic, 120, 12)).await?;
    all_handled(world, &group).await?;
    sender.publish_all(&world.letters(&topic, 120, 12)).await?;
    all_handled(world, &group).await?;
    // Its slots are free as soon as it goes on. In this process it has gone on all the time: nothing may start now.
    victim.open("all").await?;
    let here = victim.is_here();
    if here {
        world.until("the victim's handlers end", &group, |seen| seen.running_at(&victim.name) == 0).await?;
        // Time enough to start something, as the other sees it.
        sender.publish_all(&world.letters(&topic, 120, 12)).await?;
        all_handled(world, &group).await?;
    }
    victim.thaw()?;
    sender.publish_all(&world.letters(&topic, 120, 12)).await?;
    // It comes back as a member like any other.
    let again = handles(world, &group, &victim, 20);
    Load::new(world, &sender, &topic, 60).during(again).await?;
    all_handled(world, &group).await?;
    victim.stop(DRAIN).await?;
    other.stop(DRAIN).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    let owed: GroupExpectation = world.owed(&group, &[&topic]).concurrency(SLOTS).drained();
    let report = world.judge(owed)?;
    // Who goes on while it is cut off has no excuse to start anything.
    require!(!here || report.figures.late_starts == 0, "{} late starts", report.figures.late_starts);
    recovered(&report, 1, world.pace.frozen_recovery)
}

impl World {
    /// Records how far the broker says that a group is.
    pub(super) async fn look_at_watermarks(&self, group: &str, topic: &str) -> Checked {
        for row in self.broker().admin().progress(group, topic).await? {
            let (partition, through) = (row.partition, row.watermark);
            self.note(What::Watermark { group: group.into(), topic: topic.into(), partition, through });
        }
        Ok(())
    }
}
