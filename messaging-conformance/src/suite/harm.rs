//! The broker stops, dies, freezes; the way to it is cut, slow, silent: everything heals by itself, nothing is lost.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use messaging::{Capability, Messaging, MessagingOptions, Outcome};

use super::{
    Promise, World,
    handover::{all_handled, handles, recovered},
    load::Load,
    promise,
};
use crate::{
    factory::{Harm, Route, Server},
    failure::{Checked, Failure, require},
    history::What,
    member::MemberPlan,
    script::id,
};

pub(super) fn promises() -> Vec<Promise> {
    vec![
        promise!("C1", confirmed_messages_survive_a_killed_broker, [Server]),
        promise!("C8", a_broker_restart_under_load_heals, [Server]),
        promise!("C8", a_killed_broker_under_load_heals, [Server]),
        promise!("C8", a_paused_broker_under_load_heals, [Server]),
        promise!("C8", reset_connections_heal, [Route]),
        promise!("C8", a_slow_broker_is_only_slow, [Route]),
        promise!("C8", a_silent_broker_heals, [Route]),
        promise!("C8", a_cut_off_members_work_goes_on, [Route]),
        promise!("C1", a_publish_without_an_answer_is_unknown_at_its_deadline, [Route]),
        promise!("C1", an_answer_that_is_cut_leaves_lanes_in_order, [Route]),
    ]
}

const DRAIN: Duration = Duration::from_secs(5);

impl World {
    fn server(&self) -> Checked<&dyn Server> {
        self.cluster.server().ok_or_else(|| Failure::new("the factory has no server, and does not say so"))
    }

    async fn route(&self) -> Checked<Box<dyn Route>> {
        let route = self.cluster.route().await?;
        route.ok_or_else(|| Failure::new("the factory has no route, and does not say so"))
    }

    fn harmed(&self, how: &str) {
        self.note(What::Harmed { how: how.to_owned() });
    }

    fn healed(&self) {
        self.note(What::Healed);
    }
}

async fn confirmed_messages_survive_a_killed_broker(world: &World) -> Checked {
    let topic = world.topic("letters", 4).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]);
    if !world.capabilities().has(Capability::Durable) {
        return Err(Failure::new(
            "a broker with a server that does not declare itself durable: nothing can be relied on",
        ));
    }
    world.subscribe(&plan).await?;
    let sender = world.sender().await?;
    let letters = world.letters(&topic, 3_000, 100);
    // Killed in the middle: what was confirmed until then must be there.
    let publishing = async {
        for letters in letters.chunks(20) {
            sender.try_publish_all(letters).await;
            if world.log.look(|tally| tally.confirmed()) >= 1_000 {
                break;
            }
        }
        world.harmed("kill -9");
        let (killed, _) = tokio::join!(world.server()?.kill(), sender.try_publish_all(&letters[2_000..2_050]));
        Ok::<_, Failure>(killed?)
    };
    publishing.await?;
    world.server()?.start().await?;
    world.healed();
    let confirmed = world.log.look(|tally| tally.confirmed());
    require!(confirmed >= 1_000, "only {confirmed} were confirmed");
    let member = world.member(&plan).await?;
    all_handled(world, &group).await?;
    // Also what was stored without anybody's being told.
    world.drained(&group, &[&topic]).await?;
    member.stop(DRAIN).await?;
    // And readable, not only handled.
    let stored: std::collections::BTreeSet<u64> =
        world.stored(&topic).await?.iter().filter_map(|delivery| id(&delivery.message)).collect();
    if world.capabilities().retains_history {
        require!(stored.len() >= confirmed, "{confirmed} were confirmed, {} are stored", stored.len());
    }
    world.drained(&group, &[&topic]).await?;
    world.judge(world.owed(&group, &[&topic]).drained()).map(drop)
}

#[derive(Clone, Copy)]
enum Blow {
    Restart,
    Kill,
    Pause,
}

async fn a_broker_restart_under_load_heals(world: &World) -> Checked {
    under_load(world, Blow::Restart).await
}

async fn a_killed_broker_under_load_heals(world: &World) -> Checked {
    under_load(world, Blow::Kill).await
}

async fn a_paused_broker_under_load_heals(world: &World) -> Checked {
    under_load(world, Blow::Pause).await
}

async fn under_load(world: &World, blow: Blow) -> Checked {
    let topic = world.topic("letters", 6).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).concurrency(8);
    let (first, second) = (world.member(&plan).await?, world.member(&plan).await?);
    let sender = world.sender().await?;
    let harming = async {
        handles(world, &group, &first, 30).await?;
        handles(world, &group, &second, 30).await?;
        let server = world.server()?;
        match blow {
            Blow::Restart => {
                world.harmed("restart");
                server.stop().await?;
                server.start().await?;
            }
            Blow::Kill => {
                world.harmed("kill -9 and start");
                server.kill().await?;
                server.start().await?;
            }
            Blow::Pause => {
                world.harmed("pause");
                server.pause().await?;
                // As long as nobody has to give up: a session ends later.
                tokio::time::sleep(Duration::from_secs(3)).await;
                server.resume().await?;
            }
        }
        world.healed();
        // Both publishing and consuming go on, without anybody's doing.
        publishing_goes_on(world, 100).await?;
        all_handled(world, &group).await
    };
    Load::new(world, &sender, &topic, 40).rough().during(harming).await?;
    all_handled(world, &group).await?;
    first.stop(DRAIN).await?;
    second.stop(DRAIN).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(8).drained()).map(drop)
}

async fn reset_connections_heal(world: &World) -> Checked {
    on_the_way(world, Trouble::Resets).await
}

async fn a_slow_broker_is_only_slow(world: &World) -> Checked {
    on_the_way(world, Trouble::Slowness).await
}

async fn a_silent_broker_heals(world: &World) -> Checked {
    on_the_way(world, Trouble::Silence).await
}

#[derive(Clone, Copy)]
enum Trouble {
    Resets,
    Slowness,
    Silence,
}

/// A publisher and the only member come by one route, which is harmed under load.
async fn on_the_way(world: &World, trouble: Trouble) -> Checked {
    let topic = world.topic("letters", 6).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).concurrency(8);
    let route = world.route().await?;
    let member = world.member_on(route.connect().await?, &plan).await?;
    let sender = world.sender_on(Messaging::new(route.connect().await?, MessagingOptions::default()).await?);
    let harming = async {
        handles(world, &group, &member, 50).await?;
        match trouble {
            Trouble::Resets => {
                for _ in 0..3 {
                    harm(world, &*route, Harm::Reset, Duration::ZERO).await?;
                }
            }
            // Not noted as harm: slowness excuses nothing.
            Trouble::Slowness => {
                route.harm(Harm::Slow(Duration::from_millis(60)));
                publishing_goes_on(world, 50).await?;
                handles(world, &group, &member, 50).await?;
                route.heal();
            }
            Trouble::Silence => {
                for silence in [Harm::MuteBroker, Harm::BlackHole] {
                    // Longer than a session, or a lease.
                    harm(world, &*route, silence, Duration::from_secs(8)).await?;
                }
            }
        }
        publishing_goes_on(world, 50).await?;
        handles(world, &group, &member, 50).await
    };
    Load::new(world, &sender, &topic, 40).rough().during(harming).await?;
    all_handled(world, &group).await?;
    member.stop(DRAIN).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(8).drained()).map(drop)
}

/// Harms the way for so long, and waits until publishing goes on.
async fn harm(world: &World, route: &dyn Route, how: Harm, time: Duration) -> Checked {
    world.harmed(&format!("{how:?}"));
    route.harm(how);
    tokio::time::sleep(time).await;
    route.heal();
    world.healed();
    publishing_goes_on(world, 20).await
}

pub(super) async fn publishing_goes_on(world: &World, more: usize) -> Checked {
    let confirmed = world.log.look(|tally| tally.confirmed()) + more;
    Ok(world.log.wait(world.pace.patience, "publishing goes on", |tally| tally.confirmed() >= confirmed).await?)
}

async fn a_cut_off_members_work_goes_on(world: &World) -> Checked {
    let topic = world.topic("letters", 6).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).concurrency(8);
    let route = world.route().await?;
    let victim = world.member_on(route.connect().await?, &plan).await?;
    let other = world.member(&plan).await?;
    let sender = world.sender().await?;
    let harming = async {
        handles(world, &group, &victim, 30).await?;
        handles(world, &group, &other, 30).await?;
        // To the group it is as if it were frozen.
        world.log.record(&victim.name, What::Frozen);
        route.harm(Harm::MuteBroker);
        // What it has in its window it may still handle; what comes now it never gets.
        publishing_goes_on(world, 200).await?;
        all_handled(world, &group).await?;
        route.heal();
        world.log.record(&victim.name, What::Thawed);
        handles(world, &group, &victim, 30).await
    };
    Load::new(world, &sender, &topic, 40).during(harming).await?;
    all_handled(world, &group).await?;
    victim.stop(DRAIN).await?;
    other.stop(DRAIN).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    let report = world.judge(world.owed(&group, &[&topic]).concurrency(8).drained())?;
    recovered(&report, 1, world.pace.frozen_recovery)
}

async fn a_publish_without_an_answer_is_unknown_at_its_deadline(world: &World) -> Checked {
    let topic = world.topic("letters", 2).await?;
    let route = world.route().await?;
    let mut options = MessagingOptions::default();
    options.publisher.deadline = Duration::from_secs(2);
    let sender = world.sender_on(Messaging::new(route.connect().await?, options).await?);
    sender.publish_all(&world.letters(&topic, 10, 5)).await?;
    world.harmed("silence");
    route.harm(Harm::MuteBroker);
    let began = Instant::now();
    let letters = world.letters(&topic, 10, 10);
    let outcomes = sender.try_publish_all(&letters).await;
    let took = began.elapsed();
    for outcome in outcomes {
        require!(matches!(outcome, Outcome::Unknown(_)), "nobody answered, and the outcome is {outcome:?}");
    }
    let (soon, late) = (Duration::from_millis(1_900), Duration::from_secs(4));
    require!((soon..late).contains(&took), "a deadline of 2 s took {:.1} s", took.as_secs_f64());
    route.heal();
    world.healed();
    // It goes on, with nothing left over.
    let again = || async { Ok(sender.try_publish(&world.letter(&topic).key("again")).await.confirmed().ok()) };
    world.ask("a publish is confirmed again", again).await?;
    sender.publish_all(&world.letters(&topic, 50, 10)).await?;
    let stored = world.stored(&topic).await?;
    for letter in letters {
        let count = stored.iter().filter(|delivery| id(&delivery.message) == Some(letter.id)).count();
        require!(count <= 1, "message {} is stored {count} times", letter.id);
    }
    sender.close().await?;
    world.judge(crate::checker::Expectations::new()).map(drop)
}

async fn an_answer_that_is_cut_leaves_lanes_in_order(world: &World) -> Checked {
    let topic = world.topic("letters", 3).await?;
    let group = world.name("readers");
    let member = world.member(&MemberPlan::new(&group, &[&topic])).await?;
    for _ in 0..6 {
        let route = world.route().await?;
        let mut options = MessagingOptions::default();
        options.publisher.deadline = Duration::from_secs(10);
        let sender = Arc::new(world.sender_on(Messaging::new(route.connect().await?, options).await?));
        sender.publish_all(&world.letters(&topic, 20, 4)).await?;
        // Somewhere within the answers to what comes now, with later ones of each key queued behind.
        let bytes = world.random(|random| random.u64(1..400));
        world.harmed("an answer is cut");
        route.harm(Harm::CutAnswersAfter(bytes));
        let batches: Vec<_> = (0..10).map(|_| world.letters(&topic, 12, 4)).collect();
        futures::future::join_all(batches.iter().map(|batch| sender.try_publish_all(batch))).await;
        route.heal();
        world.healed();
        let again = || async { Ok(sender.try_publish(&world.letter(&topic).key("again")).await.confirmed().ok()) };
        world.ask("a publish is confirmed again", again).await?;
    }
    all_handled(world, &group).await?;
    member.stop(DRAIN).await?;
    world.drained(&group, &[&topic]).await?;
    // Order and repeats are the checker's: by the log, by the outcomes, by what was handled.
    world.judge(world.owed(&group, &[&topic]).drained()).map(drop)
}
