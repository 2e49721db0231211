//! Handlers that fail, panic, hang; messages that nobody can read: retried, dead-lettered, and never in another's way.

use std::time::Duration;

use messaging::{DeadLetter, Json, Message, Router, Shape};

use super::{Letter, Promise, World, handover::all_handled, promise};
use crate::{
    checker::Expectations,
    failure::{Checked, Failure, require},
    member::MemberPlan,
    script::{How, ID},
};

pub(super) fn promises() -> Vec<Promise> {
    vec![
        promise!("C5", a_retry_parks_only_its_lane),
        promise!("C5", poison_is_dead_lettered_after_the_exact_attempts),
        promise!("C5", a_dead_letter_is_the_message_byte_for_byte),
        promise!("C5", panics_are_failures_like_others),
        promise!("C5", hanging_handlers_time_out),
        promise!("C5", permanent_errors_are_dead_lettered_at_once),
        promise!("C5", failures_of_infrastructure_do_not_count),
        promise!("C5", undecodable_messages_are_dead_lettered_at_once),
        promise!("C5", broken_structured_events_are_dead_lettered_byte_for_byte),
        promise!("C5", unhandled_events_are_skipped_and_counted),
        promise!("C5", unhandled_events_are_dead_lettered_if_asked),
        promise!("C5", a_dead_letter_holds_its_key_if_asked),
        promise!("C5", dead_letters_belong_to_one_group),
        promise!("C11", the_dead_letter_of_the_largest_message_fits),
    ]
}

/// Publishes messages to one member and waits until all good ones are handled and all others dead.
async fn run(world: &World, plan: MemberPlan, letters: &[Letter], poison: &[(u64, u32)]) -> Checked {
    let topic = plan.topics[0].clone();
    let member = world.member(&plan).await?;
    let sender = world.sender().await?;
    sender.publish_all(letters).await?;
    world.handled(&plan.group, letters.len() - poison.len()).await?;
    // Dead letters are counted when nothing is left that could become one.
    world.drained(&plan.group, &[&topic]).await?;
    world.dead_letters(&plan.group, &topic, poison.len()).await?;
    member.stop(world.pace.patience).await?;
    sender.close().await?;
    let poison = poison.iter().map(|(id, attempts)| (*id, Some(*attempts)));
    world.judge(world.owed(&plan.group, &[&topic]).poison(poison).drained()).map(drop)
}

async fn a_retry_parks_only_its_lane(world: &World) -> Checked {
    let topic = world.topic("letters", 1).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).concurrency(2).backoff(Duration::from_secs(600));
    let member = world.member(&plan).await?;
    let sender = world.sender().await?;
    // More failing lanes than slots: a parked one must not hold one.
    let failing: Vec<_> =
        (0..8).map(|lane| world.letter(&topic).key(format!("bad-{lane}")).fails_first(How::Transient, 1)).collect();
    let behind: Vec<_> = (0..8).map(|lane| world.letter(&topic).key(format!("bad-{lane}"))).collect();
    let good = world.letters(&topic, 200, 10);
    sender.publish_all(&[failing, behind.clone(), good].concat()).await?;
    world.handled(&group, 200).await?;
    let passed = behind.iter().any(|letter| world.log.look(|tally| tally.group(&group).has_started(letter.id)));
    require!(!passed, "a message started while one before it in its lane was parked");
    member.stop(world.pace.patience).await?;
    // In another life they need not wait so long.
    let member = world.member(&plan.backoff(Duration::from_millis(20))).await?;
    world.handled(&group, 216).await?;
    member.stop(world.pace.patience).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).concurrency(2).drained()).map(drop)
}

async fn poison_is_dead_lettered_after_the_exact_attempts(world: &World) -> Checked {
    let topic = world.topic("letters", 3).await?;
    let group = world.name("readers");
    let mut letters = world.letters(&topic, 60, 12);
    for index in [3, 4, 30, 59] {
        letters[index] = letters[index].clone().fails(How::Transient);
    }
    // One that recovers on its last attempt is no poison.
    letters[20] = letters[20].clone().fails_first(How::Transient, 3);
    let poison = [3, 4, 30, 59].map(|index| (letters[index].id, 4));
    run(world, MemberPlan::new(&group, &[&topic]).attempts(4), &letters, &poison).await
}

async fn a_dead_letter_is_the_message_byte_for_byte(world: &World) -> Checked {
    let topic = world.topic("letters", 3).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).attempts(2);
    let member = world.member(&plan).await?;
    let sender = world.sender().await?;
    let mut letters = vec![
        world.letter(&topic).payload("").fails(How::Transient),
        world.letter(&topic).key("").payload(vec![0xff, 0, 0xfe]).fails(How::Transient),
        world.letter(&topic).key(vec![0xff, 0x00]).payload(vec![7; 100_000]).fails(How::Permanent),
    ];
    letters[1].message = letters[1].message.clone().with_header("binary", b"\xff\0").with_header("unicode", "ü");
    let mut event = letters[2].message.clone().with_content_type("application/json");
    event.envelope = Some(messaging::Envelope {
        id: messaging::EventId::generate(),
        source: "test".into(),
        name: "a.thing".into(),
        time: Some(messaging::Timestamp::now()),
    });
    event.attributes = messaging::Headers::new().with("subject", "s");
    letters[2].message = event;
    let began = messaging::Timestamp::now();
    let sent = sender.publish_all(&letters).await?;
    world.drained(&group, &[&topic]).await?;
    let dead = world.dead_letters(&group, &topic, letters.len()).await?;
    member.stop(world.pace.patience).await?;
    sender.close().await?;
    for (letter, sent) in letters.iter().zip(sent) {
        let found = dead.iter().find(|dead| crate::script::id(&dead.delivery.message) == Some(letter.id));
        let found = found.ok_or_else(|| Failure::new(format!("no dead letter of message {}", letter.id)))?;
        let (original, message) = (letter.sealed(), &found.delivery.message);
        require!(message.payload == original.payload, "other bytes");
        require!(message.key == original.key, "key {:?} became {:?}", original.key, message.key);
        require!(message.envelope == original.envelope, "{:?} became {:?}", original.envelope, message.envelope);
        require!(message.content_type == original.content_type, "another content type: {:?}", message.content_type);
        let headers = DeadLetter::original_headers(message);
        for (name, value) in &original.headers {
            require!(headers.get(name) == Some(value), "header {name:?} became {:?}", headers.get(name));
        }
        let told = &found.letter;
        require!(
            told.topic == *topic && told.partition == sent.receipt.partition,
            "from {}/{}",
            told.topic,
            told.partition
        );
        if let Some(position) = sent.receipt.position {
            require!(told.position == position, "it stood at {position}, and tells {}", told.position);
        }
        require!(told.shape == Shape::Full, "its shape is {:?}", told.shape);
        require!(told.error.contains("as the script says"), "its error is {:?}", told.error);
        let now = messaging::Timestamp::now();
        let times =
            began <= told.first_failed_at && told.first_failed_at <= told.last_failed_at && told.last_failed_at <= now;
        require!(times, "it failed from {} to {}", told.first_failed_at, told.last_failed_at);
    }
    let poison = letters.iter().map(|letter| (letter.id, None));
    world.judge(world.owed(&group, &[&topic]).poison(poison)).map(drop)
}

async fn panics_are_failures_like_others(world: &World) -> Checked {
    quietly();
    let topic = world.topic("letters", 2).await?;
    let group = world.name("readers");
    let mut letters = world.letters(&topic, 40, 8);
    letters[5] = letters[5].clone().fails(How::Panic);
    letters[6] = letters[6].clone().fails_first(How::Panic, 1);
    let poison = [(letters[5].id, 3)];
    run(world, MemberPlan::new(&group, &[&topic]), &letters, &poison).await
}

/// Panics that a script asks for are not worth a line each.
fn quietly() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref::<&str>() != Some(&"as the script says") {
                loud(panic);
            }
        }));
    });
}

async fn hanging_handlers_time_out(world: &World) -> Checked {
    let topic = world.topic("letters", 2).await?;
    let group = world.name("readers");
    let mut letters = world.letters(&topic, 40, 8);
    letters[5] = letters[5].clone().fails(How::Hang);
    letters[6] = letters[6].clone().fails_first(How::Hang, 1);
    let poison = [(letters[5].id, 2)];
    let mut plan = MemberPlan::new(&group, &[&topic]).attempts(2);
    plan.timeout = Duration::from_millis(150);
    run(world, plan, &letters, &poison).await
}

async fn permanent_errors_are_dead_lettered_at_once(world: &World) -> Checked {
    let topic = world.topic("letters", 2).await?;
    let group = world.name("readers");
    let mut letters = world.letters(&topic, 40, 8);
    letters[5] = letters[5].clone().fails(How::Permanent);
    let poison = [(letters[5].id, 1)];
    run(world, MemberPlan::new(&group, &[&topic]).attempts(9), &letters, &poison).await
}

async fn failures_of_infrastructure_do_not_count(world: &World) -> Checked {
    let topic = world.topic("letters", 2).await?;
    let group = world.name("readers");
    let mut letters = world.letters(&topic, 40, 8);
    // More often than there are attempts.
    letters[5] = letters[5].clone().fails_first(How::Infrastructure, 6);
    run(world, MemberPlan::new(&group, &[&topic]).attempts(2), &letters, &[]).await
}

async fn undecodable_messages_are_dead_lettered_at_once(world: &World) -> Checked {
    #[derive(serde::Deserialize)]
    struct Order {
        id: u64,
    }
    async fn on_order(order: Json<Order>) {
        tracing::trace!(id = order.0.id, "read");
    }
    let topic = world.topic("letters", 2).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).attempts(5);
    let messaging = world.messaging().await?;
    let running = messaging.run_one(plan.bare_router().on_message(topic.as_str(), on_order)).await?;
    let sender = world.sender().await?;
    let bodies: [&[u8]; 5] = [b"", b"\xff\xfe", b"{\"id\": ", b"{\"id\": \"seven\"}", b"[]"];
    let mut letters: Vec<_> = bodies.iter().map(|body| world.letter(&topic).key("k").payload(body.to_vec())).collect();
    let garbage = letters.len();
    letters.push(world.letter(&topic).key("k").payload(&br#"{"id": 7}"#[..]));
    sender.publish_all(&letters).await?;
    world.drained(&group, &[&topic]).await?;
    let dead = world.dead_letters(&group, &topic, garbage).await?;
    running.shutdown(world.pace.patience).await?;
    sender.close().await?;
    for dead in dead {
        require!(dead.letter.attempts == 1, "dead-lettered after {} attempts", dead.letter.attempts);
        require!(dead.letter.error.contains("decode"), "its error is {:?}", dead.letter.error);
    }
    let poison = letters.iter().take(garbage).map(|letter| (letter.id, Some(1)));
    // Its handler records nothing.
    world.judge(world.owed(&group, &[&topic]).poison(poison).incomplete().drained()).map(drop)
}

async fn broken_structured_events_are_dead_lettered_byte_for_byte(world: &World) -> Checked {
    async fn on_event(_: messaging::Event<serde_json::Value>) {}
    let topic = world.topic("letters", 1).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).attempts(5);
    let messaging = world.messaging().await?;
    let running = messaging.run_one(plan.bare_router().on_message(topic.as_str(), on_event)).await?;
    let bodies = ["{", "{}", r#"{"specversion":"1.0","id":"","source":"s","type":"t"}"#, r#"{"specversion":"7.0"}"#];
    for body in bodies {
        // One key: without it each would be a lane of its own, and their letters in no order.
        let message = Message::new(topic.as_str(), body).with_key("one");
        messaging.publish_raw(message.with_content_type("application/cloudevents+json")).await?;
    }
    let dead = world.ask("the dead letters", async || {
        let found = world.stored(&messaging::dead_letter_topic(&topic, &group)).await?;
        Ok((found.len() >= bodies.len()).then_some(found))
    });
    for (delivery, body) in dead.await?.iter().zip(bodies) {
        require!(delivery.message.payload == body, "{body} became {:?}", delivery.message.payload);
        let letter = DeadLetter::read(&delivery.message)?;
        require!(letter.attempts == 1, "{body} was tried {} times", letter.attempts);
    }
    running.shutdown(world.pace.patience).await?;
    world.drained(&group, &[&topic]).await?;
    messaging.close(world.pace.patience).await?;
    world.judge(world.owed(&group, &[&topic]).drained()).map(drop)
}

/// Twenty events of a name that the group handles, and ten of another.
fn events(world: &World, topic: &str) -> Vec<Letter> {
    let letters = (0..30).map(|index| {
        let mut letter = world.letter(topic).key(format!("key-{}", index % 4));
        let name = if index % 3 == 0 { "other.thing" } else { "known.thing" };
        letter.message.envelope = Some(messaging::Envelope {
            id: messaging::EventId::generate(),
            source: "test".into(),
            name: name.into(),
            time: None,
        });
        letter
    });
    letters.collect()
}

async fn unhandled_events_are_skipped_and_counted(world: &World) -> Checked {
    let topic = world.topic("letters", 2).await?;
    let group = world.name("readers");
    let mut plan = MemberPlan::new(&group, &[&topic]);
    plan.events = vec!["known.thing".to_owned()];
    let member = world.member(&plan).await?;
    let sender = world.sender().await?;
    sender.publish_all(&events(world, &topic)).await?;
    world.handled(&group, 20).await?;
    world.drained(&group, &[&topic]).await?;
    member.stop(world.pace.patience).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).skipped(10).drained()).map(drop)
}

async fn unhandled_events_are_dead_lettered_if_asked(world: &World) -> Checked {
    let topic = world.topic("letters", 2).await?;
    let group = world.name("readers");
    let mut plan = MemberPlan::new(&group, &[&topic]);
    plan.events = vec!["known.thing".to_owned()];
    plan.dead_letter_unhandled = true;
    let letters = events(world, &topic);
    let unhandled: Vec<_> = letters.iter().step_by(3).map(|letter| (letter.id, 0)).collect();
    run(world, plan, &letters, &unhandled).await
}

async fn a_dead_letter_holds_its_key_if_asked(world: &World) -> Checked {
    let topic = world.topic("letters", 1).await?;
    let group = world.name("readers");
    let mut plan = MemberPlan::new(&group, &[&topic]).attempts(2);
    plan.hold_key = true;
    let mut letters = world.letters(&topic, 20, 2);
    letters[4] = letters[4].clone().fails(How::Transient);
    // It, and what follows of its key: every other one.
    let held = letters.iter().enumerate().skip(4).step_by(2);
    let poison: Vec<_> = held.map(|(index, letter)| (letter.id, if index == 4 { 2 } else { 0 })).collect();
    run(world, plan, &letters, &poison).await
}

async fn dead_letters_belong_to_one_group(world: &World) -> Checked {
    let topic = world.topic("letters", 2).await?;
    let groups = ["failing", "fine"].map(|name| world.name(name));
    // The same messages fail in one group only: what they do is in the handler there.
    async fn fails() -> Result<(), messaging::HandlerError> {
        Err(messaging::HandlerError::permanent("always"))
    }
    let messaging = world.messaging().await?;
    let router = Router::new(groups[0].as_str()).on_message(topic.as_str(), fails);
    let failing = messaging.run_one(router).await?;
    let fine = world.member(&MemberPlan::new(&groups[1], &[&topic])).await?;
    let sender = world.sender().await?;
    let letters = world.letters(&topic, 10, 5);
    sender.publish_all(&letters).await?;
    all_handled(world, &groups[1]).await?;
    world.drained(&groups[0], &[&topic]).await?;
    world.dead_letters(&groups[0], &topic, 10).await?;
    let others = world.dead_letters(&groups[1], &topic, 0).await?.len();
    require!(others == 0, "{others} dead letters in the group in which nothing failed");
    failing.shutdown(world.pace.patience).await?;
    fine.stop(world.pace.patience).await?;
    let poison = letters.iter().map(|letter| (letter.id, Some(1)));
    let expectations = Expectations::new()
        .group(world.owed(&groups[0], &[&topic]).poison(poison))
        .group(world.owed(&groups[1], &[&topic]));
    world.judge(expectations).map(drop)
}

async fn the_dead_letter_of_the_largest_message_fits(world: &World) -> Checked {
    let topic = world.topic("letters", 1).await?;
    let group = world.name("readers");
    let plan = MemberPlan::new(&group, &[&topic]).attempts(1);
    let member = world.member(&plan).await?;
    let sender = world.sender().await?;
    let letter = world.letter(&topic).key("k").payload("").fails(How::Permanent);
    let room = world.capabilities().max_message_bytes - letter.sealed().weight();
    let letter = letter.payload(vec![b'x'; room]);
    sender.publish(&letter).await?;
    world.drained(&group, &[&topic]).await?;
    let dead = world.dead_letters(&group, &topic, 1).await?;
    let shape = dead[0].letter.shape;
    require!(shape == Shape::Full, "the dead letter of the largest message had to be made smaller: {shape:?}");
    require!(dead[0].delivery.message.headers.get(ID).is_some(), "the dead letter lost a header");
    member.stop(world.pace.patience).await?;
    world.drained(&group, &[&topic]).await?;
    sender.close().await?;
    world.judge(world.owed(&group, &[&topic]).poison([(letter.id, Some(1))]).drained()).map(drop)
}
