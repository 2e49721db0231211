//! A dead letter's way: made by a failing handler, listed, shown, and handed to its group once more, or dropped.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use messaging::{Messaging, Settler, dead_letter_topic};
use serde_json::Value;
use test_brokers::{Kafka, RabbitMq, Redis, or_skip};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::{
    asked::{command, run},
    group::{Handler, connect, drained, publish, until},
};

const STOP: Duration = Duration::from_secs(10);

async fn listed(url: &str, group: &str, topic: &str) -> Vec<Value> {
    run(&["--url", url, "--json", "dead-letters", "list", group, topic]).await.objects()
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_else(|| panic!("{object} has no {field:?}"))
}

/// Writes every letter a second time, as an owner that had lost its partition would.
async fn write_again(messaging: &Messaging, group: &str, topic: &str) {
    let letters = dead_letter_topic(topic, group);
    let admin = messaging.admin();
    for partition in 0..admin.describe(&letters).await.unwrap().unwrap().partitions {
        for delivery in admin.browse(&letters, partition, Default::default(), 100).await.unwrap() {
            messaging.publish_raw((*delivery.message).clone()).await.unwrap();
        }
    }
}

/// Two groups; one of them fails on six messages, of which three are replayed, one is dropped and two are left.
async fn a_dead_letter_goes_its_way(url: &str, topic: &str) {
    let messaging = connect(url).await;
    let (mailer, auditor) = (Handler::broken(), Handler::default());
    let groups = [mailer.run(&messaging, "mailer", topic).await, auditor.run(&messaging, "auditor", topic).await];
    publish(&messaging, topic, 4).await;
    for event in ["a", "b"] {
        let arguments = ["--url", url, "--json", "publish", topic, "--name", "orders.created", "--key", event];
        let published = run(&[&arguments[..], &[&format!("{{\"order\":\"{event}\"}}")]].concat()).await.objects();
        assert!(!text(&published[0], "id").is_empty());
    }
    drained(&messaging, "mailer", topic).await;
    drained(&messaging, "auditor", topic).await;
    assert_eq!(auditor.got().len(), 6);

    write_again(&messaging, "mailer", topic).await;
    let letters = listed(url, "mailer", topic).await;
    assert_eq!(letters.len(), 6, "{letters:?}");
    assert!(letters.iter().all(|letter| letter["copies"] == 2), "{letters:?}");
    assert!(letters.iter().all(|letter| text(letter, "error") == "the mail server is away" && letter["attempts"] == 2));
    for (filter, count) in [
        (["--error", "mail server"], 6),
        (["--error", "disk"], 0),
        (["--since", "10m"], 6),
        (["--since", "2100-01-01T00:00:00Z"], 0),
        (["--event", "orders.completed"], 0),
        (["--limit", "4"], 4),
    ] {
        let arguments = ["--url", url, "--json", "dead-letters", "list", "mailer", topic];
        let chosen = run(&[&arguments[..], &filter].concat()).await.objects();
        assert_eq!(chosen.len(), count, "{filter:?}");
    }
    let shown =
        run(&["--url", url, "--json", "dead-letters", "show", "mailer", topic, "--event", "orders.created"]).await;
    let shown = shown.objects();
    assert_eq!(shown.len(), 2, "{shown:?}");
    // By the time of their failures, which those of different keys have independently.
    let mut orders: Vec<_> = shown.iter().map(|letter| text(&letter["message"]["data"], "order")).collect();
    orders.sort_unstable();
    assert_eq!(orders, ["a", "b"]);
    assert_eq!(text(&shown[0], "handler"), topic);
    let of_raw = letters.iter().find(|letter| letter["event"].is_null()).unwrap();
    let raw = run(&["--url", url, "dead-letters", "show", "mailer", topic, "--id", text(of_raw, "id")]).await;
    for line in ["error      the mail server is away", "header     tenant: a", "key        k", "payload    "] {
        assert!(raw.out.contains(line), "{line:?} in {raw:?}");
    }

    // Nobody is asked here, so that nothing happens without --yes.
    let refused = run(&["--url", url, "dead-letters", "replay", "mailer", topic]).await;
    assert!(refused.code == 2 && refused.err.contains("--yes"), "{refused:?}");

    mailer.broken.store(false, Ordering::SeqCst);
    let events = ["--event", "orders.created", "--yes"];
    let arguments = ["--url", url, "--json", "dead-letters", "replay", "mailer", topic];
    let replayed = run(&[&arguments[..], &events[..]].concat()).await.objects();
    assert_eq!(replayed.iter().filter(|object| text(object, "outcome") == "replayed").count(), 2, "{replayed:?}");
    until("the group to get both once more", async || mailer.got().len() == 2).await;
    let left = listed(url, "mailer", topic).await;
    assert_eq!(left.len(), 4, "{left:?}");

    // Letters of a key that stand behind others of it can be resolved before them.
    let (replay, drop) = (text(&left[2], "id"), text(&left[3], "id"));
    let one =
        run(&["--url", url, "dead-letters", "replay", "mailer", topic, "--id", replay, "--rate", "5/s", "--yes"]).await;
    assert!(one.code == 0 && one.err.contains("1 replayed"), "{one:?}");
    let one = run(&["--url", url, "dead-letters", "drop", "mailer", topic, "--id", drop, "--yes"]).await;
    assert!(one.code == 0 && one.err.contains("1 dropped"), "{one:?}");
    until("the group to get the third", async || mailer.got().len() == 3).await;
    let rest = listed(url, "mailer", topic).await;
    assert_eq!(
        rest.iter().map(|letter| text(letter, "id")).collect::<Vec<_>>(),
        [text(&left[0], "id"), text(&left[1], "id")]
    );

    let rest = run(&["--url", url, "dead-letters", "drop", "mailer", topic, "--yes"]).await;
    assert!(rest.code == 0 && rest.err.contains("2 dropped"), "{rest:?}");
    assert!(listed(url, "mailer", topic).await.is_empty());
    let nothing = run(&["--url", url, "dead-letters", "replay", "mailer", topic, "--yes"]).await;
    assert!(nothing.code == 0 && nothing.err.contains("no dead letters"), "{nothing:?}");

    drained(&messaging, "mailer", topic).await;
    let lag = run(&["--url", url, "--json", "lag", "mailer", "--topic", topic]).await.objects();
    let lags: Vec<_> = lag.iter().map(|row| (text(row, "of"), row["lag"].as_u64().unwrap())).collect();
    assert_eq!(lags, [("messages", 0), ("replays", 0), ("dead_letters", 0)]);
    // Each replay once, and for the group that gave it up alone.
    let mut got = mailer.got();
    got.sort();
    assert_eq!(got.len(), 3);
    assert_eq!(got[1..], [r#"{"order":"a"}"#, r#"{"order":"b"}"#]);
    assert_eq!(auditor.got().len(), 6);
    for group in groups {
        group.shutdown(STOP).await.unwrap();
    }
    messaging.close(STOP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_redis_a_dead_letter_is_replayed_to_its_group_or_dropped() {
    let Some(redis) = or_skip(Redis::shared().await) else { return };
    a_dead_letter_goes_its_way(&redis.url(), "orders").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_kafka_a_dead_letter_is_replayed_to_its_group_or_dropped() {
    let Some(kafka) = or_skip(Kafka::shared().await) else { return };
    a_dead_letter_goes_its_way(&kafka.url(), "orders").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_rabbitmq_a_dead_letter_is_replayed_to_its_group_or_dropped() {
    let Some(rabbitmq) = or_skip(RabbitMq::shared().await) else { return };
    a_dead_letter_goes_its_way(&rabbitmq.url(), "orders").await;
}

/// What is chosen lies behind more letters than the broker hands to a usual member at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_behind_many_others_is_reached() {
    let Some(rabbitmq) = or_skip(RabbitMq::shared().await) else { return };
    let (url, topic) = (rabbitmq.url(), "many");
    let messaging = connect(&url).await;
    let handler = Handler::broken();
    let group = handler.run(&messaging, "g", topic).await;
    publish(&messaging, topic, 400).await;
    drained(&messaging, "g", topic).await;
    group.shutdown(STOP).await.unwrap();
    let letters = listed(&url, "g", topic).await;
    assert_eq!(letters.len(), 400);
    let last = text(&letters[399], "id");
    let dropped = run(&["--url", &url, "dead-letters", "drop", "g", topic, "--id", last, "--yes"]).await;
    assert_eq!(dropped.code, 0, "{dropped:?}");
    assert_eq!(listed(&url, "g", topic).await.len(), 399);
}

/// Somebody else has the letters: nothing is done twice, and the command says so in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_that_somebody_else_has_are_told() {
    let Some(redis) = or_skip(Redis::shared().await) else { return };
    let (url, topic) = (format!("{}?partitions=1", redis.url()), "held");
    let messaging = connect(&url).await;
    let handler = Handler::broken();
    let group = handler.run(&messaging, "g", topic).await;
    publish(&messaging, topic, 1).await;
    drained(&messaging, "g", topic).await;
    let letters = dead_letter_topic(topic, "g");
    let mut other = Settler::join(&**messaging.broker(), messaging::OPERATORS, letters.clone()).await.unwrap();
    let held = other.next(Duration::from_secs(10)).await.unwrap().expect("the letter");
    let url = redis.url();
    let arguments = ["--url", &url, "dead-letters", "drop", "g", topic, "--yes"];
    let command = run(&arguments);
    let holding = async {
        loop {
            other.next(Duration::from_secs(1)).await.unwrap();
        }
    };
    let ran = tokio::select! { ran = command => ran, () = holding => unreachable!("it has no end") };
    assert!(ran.code == 1 && ran.err.contains("somebody else"), "{ran:?}");
    assert!(other.settle(&held));
    other.leave(STOP).await.unwrap();
    assert!(
        messaging
            .admin()
            .unsettled(messaging::OPERATORS, &letters, 0, Default::default(), 10)
            .await
            .unwrap()
            .is_empty()
    );
    group.shutdown(STOP).await.unwrap();
}

/// What was replayed before the interrupt is resolved, the rest is listed still, and each comes once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_replay_can_be_gone_on_with() {
    let Some(redis) = or_skip(Redis::shared().await) else { return };
    let (url, topic) = (redis.url(), "interrupted");
    let messaging = connect(&url).await;
    let handler = Handler::broken();
    let group = handler.run(&messaging, "g", topic).await;
    publish(&messaging, topic, 6).await;
    drained(&messaging, "g", topic).await;
    handler.broken.store(false, Ordering::SeqCst);

    let arguments = ["--url", &url, "--json", "dead-letters", "replay", "g", topic, "--rate", "2/s", "--yes"];
    let mut replaying = command(&arguments).spawn().unwrap();
    let mut lines = BufReader::new(replaying.stdout.take().unwrap()).lines();
    let begun = Instant::now();
    for _ in 0..3 {
        assert!(lines.next_line().await.unwrap().unwrap().contains(r#""outcome":"replayed""#));
    }
    assert!(begun.elapsed() >= Duration::from_millis(900), "three at two in a second: {:?}", begun.elapsed());
    let pid = replaying.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let ended = tokio::time::timeout(Duration::from_secs(20), replaying.wait()).await.expect("it to end");
    assert_eq!(ended.unwrap().code(), Some(1));

    assert_eq!(listed(&url, "g", topic).await.len(), 3);
    let rest = run(&["--url", &url, "--json", "dead-letters", "replay", "g", topic, "--yes"]).await.objects();
    assert_eq!(rest.len(), 3);
    until("the group to get all six", async || handler.got().len() == 6).await;
    drained(&messaging, "g", topic).await;
    let mut got = handler.got();
    got.sort();
    assert_eq!(got, ["0", "1", "2", "3", "4", "5"]);
    assert!(listed(&url, "g", topic).await.is_empty());
    group.shutdown(STOP).await.unwrap();
}
