//! Ten members die, one after the other, while more than ten thousand messages come in.

use std::time::Duration;

use super::{
    Promise, World,
    handover::{all_handled, handles, recovered},
    harm::publishing_goes_on,
    load::Load,
    promise,
};
use crate::{
    checker::Repeats,
    failure::{Checked, require},
    member::MemberPlan,
};

pub(super) fn promise() -> Promise {
    promise!("C8", ten_deaths_lose_nothing_and_work_goes_on, [Processes])
}

const PARTITIONS: u32 = 12;
const MEMBERS: usize = 3;
const DEATHS: usize = 10;
const HANDLERS: usize = 8;
const MESSAGES: usize = 10_000;
/// What one member finishes within the 100 ms in which a settlement goes out, of five hundred messages a second.
const FINISHED_MEANWHILE: usize = 50;
/// For each death: until its work goes on, and until the next member has work.
pub(super) const TIME: Duration = Duration::from_secs(DEATHS as u64 * 20);
const DRAIN: Duration = Duration::from_secs(5);

async fn ten_deaths_lose_nothing_and_work_goes_on(world: &World) -> Checked {
    let topic = world.topic("letters", PARTITIONS).await?;
    let plan = MemberPlan::new(&world.name("readers"), &[&topic]).concurrency(HANDLERS);
    let group = plan.group.clone();
    world.subscribe(&plan).await?;
    let sender = world.sender().await?;
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        members.push(world.mortal(&plan).await?);
    }
    let dying = async {
        for member in &members {
            handles(world, &group, member, 20).await?;
        }
        for _ in 0..DEATHS {
            let which = world.random(|random| random.usize(..members.len()));
            members.remove(which).kill().await?;
            // So much that there is some of every partition: each is worked on again before the next member is killed.
            publishing_goes_on(world, 500).await?;
            all_handled(world, &group).await?;
            let next = world.mortal(&plan).await?;
            handles(world, &group, &next, 50).await?;
            members.push(next);
        }
        let confirmed = world.log.look(|tally| tally.confirmed());
        publishing_goes_on(world, MESSAGES.saturating_sub(confirmed)).await
    };
    Load::new(world, &sender, &topic, 40).during(dying).await?;
    all_handled(world, &group).await?;
    for member in members {
        member.stop(DRAIN).await?;
    }
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    let repeats = Repeats::AtMost(DEATHS * (HANDLERS + FINISHED_MEANWHILE));
    let report = world.judge(world.owed(&group, &[&topic]).concurrency(HANDLERS).repeats(repeats).drained())?;
    let confirmed = report.figures.confirmed;
    require!(confirmed as usize >= MESSAGES, "{confirmed} messages came in, not {MESSAGES}");
    recovered(&report, DEATHS, world.pace.recovery)
}
