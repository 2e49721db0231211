//! Publishing: an outcome for each message, and what each outcome means.

use std::time::Duration;

use futures::future::join_all;
use messaging::{ErrorKind, Message, Outcome};

use super::{Promise, World, promise};
use crate::{
    failure::{Checked, Failure, require},
    history::payload_hash,
    member::MemberPlan,
    script::id,
};

pub(super) fn promises() -> Vec<Promise> {
    vec![
        promise!("C1", confirmed_messages_are_readable_at_their_positions),
        promise!("C1", every_message_of_a_mixed_batch_has_its_outcome),
        promise!("C1", one_publishers_messages_stand_in_its_order),
        promise!("C1", what_follows_a_confirm_stands_behind_it),
        promise!("C1", nothing_is_stored_twice),
        promise!("C1", a_publish_after_close_is_rejected),
        promise!("C1", closing_answers_everything_that_was_published),
        promise!("C1", a_publisher_outlives_the_runtime_that_used_it_first),
        promise!("C11", oversized_messages_are_rejected_and_the_largest_arrives),
    ]
}

async fn confirmed_messages_are_readable_at_their_positions(world: &World) -> Checked {
    let topic = world.topic("letters", 3).await?;
    let sender = world.sender().await?;
    for _ in 0..20 {
        let letters = world.letters(&topic, 10, 5);
        let sent = sender.publish_all(&letters).await?;
        for (letter, sent) in letters.iter().zip(sent) {
            // At once: a confirm that comes before the message is stored is none.
            let Some(position) = sent.receipt.position else {
                let stored = world.stored(&topic).await?;
                let there = stored.iter().any(|delivery| id(&delivery.message) == Some(letter.id));
                require!(there, "message {} is confirmed and not there", letter.id);
                continue;
            };
            let admin = world.broker().admin();
            let found = admin.browse(&topic, sent.receipt.partition, position, 1).await?;
            let found = found.first().filter(|delivery| delivery.position == position);
            let there = found.is_some_and(|delivery| id(&delivery.message) == Some(letter.id));
            require!(there, "message {} is confirmed at {:?} and not there", letter.id, sent.receipt);
        }
    }
    sender.close().await
}

async fn every_message_of_a_mixed_batch_has_its_outcome(world: &World) -> Checked {
    let topic = world.topic("letters", 3).await?;
    let too_large = world.capabilities().max_message_bytes + 1;
    let sender = world.sender().await?;
    let mut letters = world.letters(&topic, 9, 9);
    let oversized = [2, 5, 8];
    for index in oversized {
        letters[index] = world.letter(&topic).key(format!("key-{index}")).payload(vec![7; too_large]);
    }
    let outcomes = sender.try_publish_all(&letters).await;
    for (index, outcome) in outcomes.iter().enumerate() {
        let as_it_should = match outcome {
            Outcome::Confirmed(_) => !oversized.contains(&index),
            Outcome::Rejected(_) => oversized.contains(&index),
            _ => false,
        };
        require!(as_it_should, "message {index}: {outcome:?}");
    }
    let mut stored: Vec<_> = world.stored(&topic).await?.iter().filter_map(|delivery| id(&delivery.message)).collect();
    stored.sort_unstable();
    let good = letters.iter().enumerate().filter(|(index, _)| !oversized.contains(index));
    let expected: Vec<u64> = good.map(|(_, letter)| letter.id).collect();
    require!(stored == expected, "{stored:?} are stored, {expected:?} were confirmed");
    sender.close().await
}

async fn one_publishers_messages_stand_in_its_order(world: &World) -> Checked {
    let topic = world.topic("letters", 3).await?;
    let sender = world.sender().await?;
    let group = world.name("readers");
    let member = world.member(&MemberPlan::new(&group, &[&topic])).await?;
    // Batches without waiting for the ones before, and single messages beside them.
    let batches: Vec<_> = (0..20).map(|_| world.letters(&topic, 25, 4)).collect();
    let outcomes = join_all(batches.iter().map(|batch| sender.publish_all(batch))).await;
    outcomes.into_iter().collect::<Checked<Vec<_>>>()?;
    let singles = world.letters(&topic, 100, 4);
    let outcomes = join_all(singles.iter().map(|letter| sender.publish(letter))).await;
    outcomes.into_iter().collect::<Checked<Vec<_>>>()?;
    // And one that is large.
    sender.publish_all(&world.letters(&topic, 800, 4)).await?;
    world.handled(&group, 1_400).await?;
    member.stop(world.pace.patience).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic])).map(drop)
}

async fn what_follows_a_confirm_stands_behind_it(world: &World) -> Checked {
    let topic = world.topic("letters", 1).await?;
    let (first, second) = (world.sender().await?, world.sender().await?);
    let group = world.name("readers");
    let member = world.member(&MemberPlan::new(&group, &[&topic])).await?;
    for _ in 0..50 {
        first.publish(&world.letter(&topic).key("one")).await?;
        second.publish(&world.letter(&topic).key("one")).await?;
    }
    world.handled(&group, 100).await?;
    member.stop(world.pace.patience).await?;
    first.close().await?;
    second.close().await?;
    world.judge(world.owed(&group, &[&topic])).map(drop)
}

async fn nothing_is_stored_twice(world: &World) -> Checked {
    let topic = world.topic("letters", 4).await?;
    let sender = world.sender().await?;
    sender.publish_all(&world.letters(&topic, 700, 20)).await?;
    let singles = world.letters(&topic, 300, 20);
    let outcomes = join_all(singles.iter().map(|letter| sender.publish(letter))).await;
    outcomes.into_iter().collect::<Checked<Vec<_>>>()?;
    let mut stored: Vec<_> = world.stored(&topic).await?.iter().filter_map(|delivery| id(&delivery.message)).collect();
    let count = stored.len();
    stored.sort_unstable();
    stored.dedup();
    require!(count == 1_000 && stored.len() == 1_000, "{count} are stored, {} different, of 1000", stored.len());
    sender.close().await
}

async fn a_publish_after_close_is_rejected(world: &World) -> Checked {
    let topic = world.topic("letters", 1).await?;
    let messaging = world.messaging().await?;
    messaging.publish_raw(Message::new(topic.as_str(), "before")).await?;
    messaging.close(world.pace.patience).await?;
    let Err(error) = messaging.publish_raw(Message::new(topic.as_str(), "after")).await else {
        return Err(Failure::new("a publish after close was confirmed"));
    };
    require!(error.kind() == ErrorKind::Closed, "the error's kind is {:?}: {error}", error.kind());
    let batch = vec![Message::new(topic.as_str(), "after").into(), Message::new(topic.as_str(), "after").into()];
    for outcome in messaging.publish_messages(batch).await {
        require!(matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
    }
    // Closing again changes nothing and hangs nowhere.
    let again = tokio::time::timeout(world.pace.patience, messaging.close(Duration::from_secs(1))).await;
    require!(again.is_ok(), "the second close hangs");
    let stored = world.stored(&topic).await?;
    require!(stored.len() == 1, "{} are stored, one was confirmed", stored.len());
    Ok(())
}

async fn closing_answers_everything_that_was_published(world: &World) -> Checked {
    let topic = world.topic("letters", 4).await?;
    let sender = world.sender().await?;
    let letters = world.letters(&topic, 500, 50);
    let publishing = letters.iter().map(|letter| sender.try_publish(letter));
    let publishing = async { tokio::time::timeout(world.pace.patience, join_all(publishing)).await };
    let closing = || async {
        // Somewhere in the middle, from several sides at once.
        let some = world.random(|random| random.usize(1..200));
        world.log.wait(world.pace.patience, "some answered", |tally| tally.answered() >= some).await?;
        Ok::<_, Failure>(sender.messaging.close(world.pace.patience).await?)
    };
    let (outcomes, one, other, third) = tokio::join!(publishing, closing(), closing(), closing());
    let outcomes = outcomes.map_err(|_| Failure::new("a publish has no outcome after its publisher was closed"))?;
    one?;
    other?;
    third?;
    let stored: Vec<_> = world.stored(&topic).await?.iter().filter_map(|delivery| id(&delivery.message)).collect();
    for (letter, outcome) in letters.iter().zip(outcomes) {
        let count = stored.iter().filter(|id| **id == letter.id).count();
        let right = match outcome {
            Outcome::Confirmed(_) => count == 1,
            Outcome::Rejected(_) => count == 0,
            _ => count <= 1,
        };
        require!(right, "message {} is stored {count} times: {outcome:?}", letter.id);
    }
    Ok(())
}

async fn a_publisher_outlives_the_runtime_that_used_it_first(world: &World) -> Checked {
    let topic = world.topic("letters", 1).await?;
    let messaging = world.messaging().await?;
    for round in 0..2 {
        let (elsewhere, message) = (messaging.clone(), Message::new(topic.as_str(), "elsewhere"));
        let elsewhere = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let receipt = runtime.block_on(elsewhere.publish_raw(message))?;
            Ok::<_, Failure>(receipt)
        });
        let elsewhere = tokio::task::spawn_blocking(move || elsewhere.join()).await?;
        let receipt = elsewhere.map_err(|_| Failure::new("publishing on another runtime panicked"))?;
        receipt.map_err(|failure| failure.within(format!("round {round}, on a runtime of its own")))?;
        messaging.publish_raw(Message::new(topic.as_str(), "here")).await?;
    }
    let stored = world.stored(&topic).await?.len();
    require!(stored == 4, "{stored} of 4 are stored");
    Ok(messaging.close(world.pace.patience).await?)
}

async fn oversized_messages_are_rejected_and_the_largest_arrives(world: &World) -> Checked {
    let topic = world.topic("letters", 1).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]);
    let member = world.member(&plan).await?;
    let sender = world.sender().await?;
    let limit = world.capabilities().max_message_bytes;
    let empty = world.letter(&topic).payload("");
    let largest = empty.clone().payload(vec![b'x'; limit - empty.sealed().weight()]);
    let larger = world.letter(&topic).payload(vec![b'x'; limit]);
    let Outcome::Rejected(error) = sender.try_publish(&larger).await else {
        return Err(Failure::new("an oversized message was not rejected"));
    };
    require!(error.to_string().contains(&limit.to_string()), "the error does not name the limit {limit}: {error}");
    sender.publish(&largest).await?;
    world.handled(&group, 1).await?;
    let hash = payload_hash(&largest.message.payload);
    require!(world.log.look(|tally| tally.group(&group).has_handled(largest.id)), "{hash:x} did not arrive");
    member.stop(world.pace.patience).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic])).map(drop)
}
