//! What a backend declares is true, and what it does not declare it refuses at start, by name.

use std::{sync::Arc, time::Duration};

use messaging::{Capability, ErrorKind, Fence, HandlerError, Message, Outcome, Router, Settling, TopicSpec};

use super::{Promise, World, handover::all_handled, promise};
use crate::{
    factory::Need,
    failure::{Checked, Failure, require},
    history::End,
    member::{MemberPlan, Recorder},
    script::{How, id},
};

pub(super) fn promises() -> Vec<Promise> {
    vec![
        promise!("C10", durable_is_declared_or_refused),
        promise!("C10", retained_history_is_declared_or_refused),
        promise!("C10", fencing_tokens_are_declared_or_refused),
        promise!("C10", fenced_dead_letters_are_declared_or_refused),
        promise!("C10", counted_deaths_are_declared_or_refused),
        promise!("C10", growing_partitions_are_declared_or_refused),
        promise!("C10", settled_publishes_are_declared_or_refused),
        promise!("C10", what_the_factory_says_it_lacks_is_not_there),
        promise!("C9", fences_grow_from_owner_to_owner),
        promise!("C1", a_publish_until_settled_is_answered_by_the_groups_or_refused),
        promise!("C5", a_message_that_kills_its_process_is_dead_lettered, [Processes]),
        promise!("topology", topics_are_made_once_and_disagreement_is_refused),
        promise!("topology", invalid_names_are_refused_by_name),
        promise!("topology", a_missing_topic_is_made_or_named),
        promise!("admin", looking_settles_nothing),
        promise!("C8", a_broker_that_answers_is_ready),
    ]
}

async fn durable_is_declared_or_refused(world: &World) -> Checked {
    declared_or_refused(world, Capability::Durable).await
}

async fn retained_history_is_declared_or_refused(world: &World) -> Checked {
    declared_or_refused(world, Capability::RetainsHistory).await
}

async fn fencing_tokens_are_declared_or_refused(world: &World) -> Checked {
    declared_or_refused(world, Capability::FencingToken).await
}

async fn fenced_dead_letters_are_declared_or_refused(world: &World) -> Checked {
    declared_or_refused(world, Capability::FencedDeadLetter).await
}

async fn counted_deaths_are_declared_or_refused(world: &World) -> Checked {
    declared_or_refused(world, Capability::CountsDeaths).await
}

async fn growing_partitions_are_declared_or_refused(world: &World) -> Checked {
    declared_or_refused(world, Capability::PartitionsCanGrow).await
}

async fn settled_publishes_are_declared_or_refused(world: &World) -> Checked {
    declared_or_refused(world, Capability::SettlesPublishes).await
}

/// A group that requires the capability runs where it is declared; elsewhere nothing starts, and the error says why.
async fn declared_or_refused(world: &World, capability: Capability) -> Checked {
    let topic = world.topic("letters", 1).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]);
    let messaging = world.messaging().await?;
    let router = || plan.bare_router().on_message(topic.as_str(), || async {}).requires(capability);
    if world.capabilities().has(capability) {
        let running = messaging.run_one(router()).await?;
        running.shutdown(world.pace.patience).await?;
        return Ok(messaging.close(world.pace.patience).await?);
    }
    // Together with a group that could run: that one must not start either.
    let bystander = world.name("bystander");
    let other = Router::new(bystander.as_str()).on_message(topic.as_str(), || async {});
    for refused in [messaging.check([router()]).err(), messaging.run([other, router()]).await.err()] {
        let error = refused.ok_or_else(|| Failure::new(format!("`{capability}` is not declared, and not refused")))?;
        require!(error.kind() == ErrorKind::Unsupported, "the error's kind is {:?}: {error}", error.kind());
        let text = error.to_string();
        for named in [capability.as_str(), world.broker().name(), &group] {
            require!(text.contains(named), "the error does not name {named:?}: {text}");
        }
    }
    for group in [&group, &bystander] {
        let progress = world.broker().admin().progress(group, &topic).await?;
        require!(progress.iter().all(|row| row.watermark.is_none()), "{group} has begun although it was refused");
    }
    Ok(messaging.close(world.pace.patience).await?)
}

/// A factory may leave tests out only for what is truly not there.
async fn what_the_factory_says_it_lacks_is_not_there(world: &World) -> Checked {
    let topic = world.topic("letters", 1).await?;
    let group = world.name("readers");
    let member = world.member(&MemberPlan::new(&group, &[&topic])).await?;
    let capabilities = world.capabilities();
    for (need, reason) in world.factory.lacks() {
        let there = match need {
            // What was never seen to survive its broker is not durable.
            Need::Server => world.cluster.server().is_some() || (capabilities.durable && world.cluster.url().is_none()),
            Need::Route => world.cluster.route().await?.is_some(),
            Need::Freeze => world.cluster.url().is_some() || world.cluster.sever(&group).is_some(),
            Need::Grow => capabilities.partitions_can_grow,
            Need::Forget => world.cluster.forget(&topic, 0, messaging::Position::default()).await?,
            Need::Processes => world.cluster.url().is_some(),
        };
        require!(!there, "the factory says that it lacks {need} ({reason}), and has it");
    }
    member.stop(world.pace.patience).await
}

async fn fences_grow_from_owner_to_owner(world: &World) -> Checked {
    if !world.capabilities().fencing_token {
        return declared_or_refused(world, Capability::FencingToken).await;
    }
    let topic = world.topic("letters", 1).await?;
    let group = world.name("readers");
    let sender = world.sender().await?;
    let fences = Arc::<parking_lot::Mutex<Vec<u64>>>::default();
    for owner in 0..3 {
        let seen = fences.clone();
        let recorder = Recorder::to_log(format!("owner-{owner}").into(), group.as_str().into(), world.log.clone());
        let handler = move |delivery: messaging::Delivery, fence: Fence| {
            let run = recorder.begin(&delivery);
            seen.lock().push(fence.epoch);
            async move { run.end(End::Handled) }
        };
        let messaging = world.messaging().await?;
        let plan = MemberPlan::new(&group, &[&topic]);
        let running = messaging.run_one(plan.bare_router().on_message(topic.as_str(), handler)).await?;
        sender.publish_all(&world.letters(&topic, 10, 3)).await?;
        all_handled(world, &group).await?;
        running.shutdown(world.pace.patience).await?;
        messaging.close(world.pace.patience).await?;
    }
    sender.close().await?;
    let fences = fences.lock().clone();
    let grows = fences.chunks(10).zip(fences.chunks(10).skip(1)).all(|(before, after)| before[9] < after[0]);
    require!(fences.len() == 30 && grows, "the fences of three owners: {fences:?}");
    world.judge(world.owed(&group, &[&topic]).strict_epochs(true)).map(drop)
}

async fn a_publish_until_settled_is_answered_by_the_groups_or_refused(world: &World) -> Checked {
    let topic = world.topic("letters", 2).await?;
    let messaging = world.messaging().await?;
    let letters = || {
        let letter = |index| world.letter(&topic).key(format!("key-{index}"));
        vec![letter(0), letter(1).fails_first(How::Transient, 1), letter(2).fails(How::Permanent)]
    };
    let sealed = |letters: Vec<super::Letter>| letters.iter().map(|letter| Arc::new(letter.sealed())).collect();
    if !world.capabilities().settles_publishes {
        let Err(error) = messaging.publish_until_settled(sealed(letters())).await else {
            return Err(Failure::new("`settles_publishes` is not declared, and not refused"));
        };
        require!(error.kind() == ErrorKind::Unsupported, "the error's kind is {:?}: {error}", error.kind());
        return Ok(());
    }
    let nobody = messaging.publish_until_settled(sealed(letters())).await?;
    let none = nobody.iter().all(|outcome| matches!(outcome, Outcome::Settled(Settling::NoGroup)));
    require!(none, "no group is there, and the outcomes are {nobody:?}");
    let group = world.name("readers");
    // From now on: what nobody had is theirs too, where history is kept.
    let member = world.member(&MemberPlan::new(&group, &[&topic])).await?;
    let outcomes = messaging.publish_until_settled(sealed(letters())).await?;
    let as_they_should = matches!(
        &outcomes[..],
        [
            Outcome::Settled(Settling::Handled),
            Outcome::Settled(Settling::Handled),
            Outcome::Settled(Settling::DeadLettered(reason)),
        ] if reason.contains("as the script says")
    );
    require!(as_they_should, "{outcomes:?}");
    member.stop(world.pace.patience).await
}

async fn a_message_that_kills_its_process_is_dead_lettered(world: &World) -> Checked {
    if !world.capabilities().counts_deaths {
        return declared_or_refused(world, Capability::CountsDeaths).await;
    }
    let topic = world.topic("letters", 1).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).concurrency(4);
    let sender = world.sender().await?;
    let mut letters = world.letters(&topic, 60, 30);
    letters[7] = letters[7].clone().fails(How::Abort);
    world.subscribe(&plan).await?;
    sender.publish_all(&letters).await?;
    let killer = letters[7].id;
    // It ends three of them; the fourth puts it aside and goes on.
    for life in 1..=3 {
        let member = world.mortal(&plan).await?;
        let times = || world.starts_of(killer) >= life;
        world.ask("the message ends its process", async || Ok(times().then_some(()))).await?;
        member.kill().await?;
    }
    let last = world.mortal(&plan).await?;
    world.handled(&group, 59).await?;
    world.drained(&group, &[&topic]).await?;
    world.dead_letters(&group, &topic, 1).await?;
    last.stop(world.pace.patience).await?;
    sender.close().await?;
    let starts = world.starts_of(killer);
    require!(starts == 3, "the message was started {starts} times");
    world.judge(world.owed(&group, &[&topic]).poison([(killer, None)]).drained()).map(drop)
}

async fn topics_are_made_once_and_disagreement_is_refused(world: &World) -> Checked {
    let admin = world.broker().admin();
    let name = world.name("made");
    require!(admin.describe(&name).await?.is_none(), "a topic was there before it was made");
    let topic = world.topic("made", 3).await?;
    let mut spec = TopicSpec::default();
    spec.partitions = 3;
    for info in [admin.ensure_topic(&topic, &spec).await?, admin.describe(&topic).await?.ok_or("it is not there")?] {
        require!(info.partitions == 3 && info.topic == *topic, "{info:?}");
    }
    spec.partitions = 5;
    let Err(error) = admin.ensure_topic(&topic, &spec).await else {
        return Err(Failure::new("another number of partitions was accepted"));
    };
    let text = error.to_string();
    require!(error.kind() == ErrorKind::Config, "the error's kind is {:?}: {text}", error.kind());
    for named in [topic.as_str(), "3", "5"] {
        require!(text.contains(named), "the error does not name {named}: {text}");
    }
    let info = admin.describe(&topic).await?;
    require!(info.is_some_and(|info| info.partitions == 3), "the topic has changed");
    Ok(())
}

async fn invalid_names_are_refused_by_name(world: &World) -> Checked {
    let topic = world.topic("letters", 1).await?;
    let messaging = world.messaging().await?;
    let long = "x".repeat(201);
    for bad in ["", "with space", "schlüssel", "a/b", "..", &long] {
        let routers = [
            Router::new(bad).on_message(topic.as_str(), || async {}),
            Router::new(world.name("readers")).on_message(bad, || async {}),
        ];
        for router in routers {
            let Err(error) = messaging.run_one(router).await else {
                return Err(Failure::new(format!("{bad:?} was accepted as a name")));
            };
            require!(error.kind() == ErrorKind::Config, "{bad:?}: the error's kind is {:?}", error.kind());
            require!(error.to_string().contains(&format!("{bad:?}")), "the error does not name {bad:?}: {error}");
        }
    }
    Ok(messaging.close(world.pace.patience).await?)
}

async fn a_missing_topic_is_made_or_named(world: &World) -> Checked {
    let topic = world.name("missing");
    let group = world.name("readers");
    let messaging = world.messaging().await?;
    let router = Router::new(group.as_str()).on_message(topic.as_str(), || async {});
    let started = tokio::time::timeout(world.pace.patience, messaging.run_one(router)).await;
    let Ok(started) = started else { return Err(Failure::new("a group on a missing topic neither starts nor fails")) };
    match started {
        Ok(running) => {
            require!(world.broker().admin().describe(&topic).await?.is_some(), "it runs on a topic that is not there");
            running.shutdown(world.pace.patience).await?;
        }
        Err(error) => require!(error.to_string().contains(&topic), "the error does not name the topic: {error}"),
    }
    // A publisher says as much.
    let unknown = world.name("unknown");
    let published = messaging.publish_raw(Message::new(unknown.as_str(), "x")).await;
    match published {
        Ok(_) => {
            require!(!world.stored(&unknown).await?.is_empty(), "it was confirmed on a topic that does not have it");
        }
        Err(error) => require!(error.to_string().contains(&unknown), "the error does not name the topic: {error}"),
    }
    Ok(messaging.close(world.pace.patience).await?)
}

async fn looking_settles_nothing(world: &World) -> Checked {
    let topic = world.topic("letters", 2).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]);
    let sender = world.sender().await?;
    let member = world.member(&plan).await?;
    sender.publish_all(&world.letters(&topic, 30, 10)).await?;
    world.handled(&group, 30).await?;
    world.drained(&group, &[&topic]).await?;
    member.stop(world.pace.patience).await?;
    let sent = sender.publish_all(&world.letters(&topic, 70, 10)).await?;
    for _ in 0..2 {
        let lag = world.lag(&group, &topic).await?;
        require!(lag == 70, "{lag} are unsettled, 70 are");
        let stored = world.stored(&topic).await?;
        let new = stored.iter().filter(|one| sent.iter().any(|sent| Some(sent.id) == id(&one.message))).count();
        require!(new == 70, "{new} of 70 can be seen");
        let ascending = |partition| {
            let of_it: Vec<_> =
                stored.iter().filter(|one| one.partition == partition).map(|one| one.position).collect();
            of_it.is_sorted_by(|one, next| one < next)
        };
        require!(ascending(0) && ascending(1), "what is seen is not in the log's order");
    }
    let member = world.member(&plan).await?;
    world.handled(&group, 100).await?;
    member.stop(world.pace.patience).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).drained()).map(drop)
}

async fn a_broker_that_answers_is_ready(world: &World) -> Checked {
    async fn fine() -> Result<(), HandlerError> {
        Ok(())
    }
    let topic = world.topic("letters", 1).await?;
    let messaging = world.messaging().await?;
    messaging.ping(Duration::from_secs(5)).await?;
    let running = messaging.run_one(Router::new(world.name("readers")).on_message(topic.as_str(), fine)).await?;
    require!(running.health().is_good(), "a fresh group is not well: {:?}", running.health());
    running.shutdown(world.pace.patience).await?;
    Ok(messaging.close(world.pace.patience).await?)
}
