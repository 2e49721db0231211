//! `publish`, `tail`, `lag` and `doctor` on real brokers.

use std::time::Duration;

use messaging::TopicSpec;
use test_brokers::{Kafka, RabbitMq, Redis, or_skip};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::{
    asked::{command, run, run_with_input},
    group::{Handler, connect, drained},
};

async fn what_is_published_is_tailed(url: &str, topic: &str) {
    let messaging = connect(url).await;
    let mut spec = TopicSpec::default();
    spec.partitions = 3;
    messaging.admin().ensure_topic(topic, &spec).await.unwrap();
    for number in 0..5 {
        let data = format!("{{\"order\": {number}}}");
        let arguments = [
            "--url",
            url,
            "publish",
            topic,
            "--key",
            &number.to_string(),
            "--name",
            "orders.created",
            "--header",
            "tenant=a=b",
            &data,
        ];
        let published = run(&arguments).await;
        assert!(published.code == 0 && published.out.starts_with(&format!("published to {topic}/")), "{published:?}");
    }
    let bytes = run_with_input(&["--url", url, "publish", topic, "-"], "plain\u{1b}text").await;
    assert_eq!(bytes.code, 0, "{bytes:?}");

    let tailed = run(&["--url", url, "--json", "tail", topic]).await.objects();
    assert_eq!(tailed.len(), 6, "{tailed:?}");
    let events: Vec<_> = tailed.iter().filter(|message| message["name"] == "orders.created").collect();
    let orders: Vec<_> = events.iter().map(|message| message["data"]["order"].as_u64().unwrap()).collect();
    assert_eq!(orders, [0, 1, 2, 3, 4], "by time over the partitions");
    assert!(events.iter().all(|message| message["headers"]["tenant"] == "a=b" && message["source"] == "messaging-cli"));
    assert!(tailed.iter().any(|message| message["text"] == "plain\u{1b}text"));
    let lines = run(&["--url", url, "tail", topic, "--headers"]).await;
    assert!(lines.out.contains("plain\u{fffd}text") && lines.out.contains("    tenant: a=b"), "{lines:?}");
    assert_eq!(run(&["--url", url, "tail", topic, "--limit", "2"]).await.out.lines().count(), 2);
    assert_eq!(run(&["--url", url, "tail", topic, "--from", "latest"]).await.out, "");
    let of_one = run(&["--url", url, "--json", "tail", topic, "--partition", "1"]).await.objects();
    assert!(of_one.iter().all(|message| message["partition"] == 1) && of_one.len() < 6, "{of_one:?}");
    let wrong = run(&["--url", url, "tail", topic, "--partition", "3"]).await;
    assert!(wrong.code == 2 && wrong.err.contains("--partition"), "{wrong:?}");
    assert!(
        messaging.admin().progress("messaging-cli", topic).await.unwrap().iter().all(|row| row.watermark.is_none())
    );

    // Following, from the oldest on: what comes while it runs is shown too.
    let mut following =
        command(&["--url", url, "--json", "tail", topic, "--follow", "--from", "earliest", "--limit", "7"])
            .spawn()
            .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let read = async {
        for _ in 0..6 {
            lines.next_line().await.unwrap().unwrap();
        }
        assert_eq!(run(&["--url", url, "publish", topic, "seventh"]).await.code, 0);
        lines.next_line().await.unwrap().unwrap()
    };
    let seventh = tokio::time::timeout(Duration::from_secs(30), read).await.expect("what is published to be shown");
    assert!(seventh.contains(r#""text":"seventh""#), "{seventh}");
    assert!(following.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_redis_what_is_published_is_tailed() {
    let Some(redis) = or_skip(Redis::shared().await) else { return };
    what_is_published_is_tailed(&redis.url(), "tailed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_kafka_what_is_published_is_tailed() {
    let Some(kafka) = or_skip(Kafka::shared().await) else { return };
    what_is_published_is_tailed(&kafka.url(), "tailed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_rabbitmq_a_topic_that_is_kept_for_nobody_is_refused_with_the_reason() {
    let Some(rabbitmq) = or_skip(RabbitMq::shared().await) else { return };
    let url = rabbitmq.url();
    connect(&url).await.admin().ensure_topic("tailed", &TopicSpec::default()).await.unwrap();
    let refused = run(&["--url", &url, "tail", "tailed"]).await;
    assert!(refused.code == 1 && refused.err.contains("RabbitMQ keeps messages for groups alone"), "{refused:?}");
    let nobody = run(&["--url", &url, "publish", "tailed", "x"]).await;
    assert_eq!(nobody.code, 1, "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lag_is_what_a_group_has_not_settled() {
    let Some(redis) = or_skip(Redis::shared().await) else { return };
    let (url, topic) = (redis.url(), "lagging");
    let messaging = connect(&url).await;
    let handler = Handler::default();
    let group = handler.run(&messaging, "g", topic).await;
    crate::group::publish(&messaging, topic, 3).await;
    drained(&messaging, "g", topic).await;
    group.shutdown(Duration::from_secs(10)).await.unwrap();
    crate::group::publish(&messaging, topic, 5).await;
    let rows = run(&["--url", &url, "--json", "lag", "g", "--topic", topic]).await.objects();
    assert_eq!((&rows[0]["lag"], &rows[0]["of"]), (&5.into(), &"messages".into()), "{rows:?}");
    let table = run(&["--url", &url, "lag", "g", "--topic", topic, "--partitions"]).await;
    assert!(table.code == 0 && table.out.lines().filter(|line| line.contains("messages")).count() == 16, "{table:?}");
    let missing = run(&["--url", &url, "lag", "g", "--topic", "no-such-topic"]).await;
    assert!(missing.code == 1 && missing.err.contains(r#"--topic: there is no topic "no-such-topic""#), "{missing:?}");
}

async fn without_a_group_lag_is_of_every_group(url: &str) {
    let messaging = connect(url).await;
    // The longer name is a topic of its own, whose groups are not the shorter one's.
    for (group, topic) in [("b", "crowd"), ("a", "crowd"), ("c", "crowd.of-two")] {
        Handler::default().run(&messaging, group, topic).await.shutdown(Duration::from_secs(10)).await.unwrap();
        crate::group::publish(&messaging, topic, 1).await;
    }
    let rows = run(&["--url", url, "--json", "lag", "--topic", "crowd", "--topic", "crowd.of-two"]).await.objects();
    let of_messages = rows.iter().filter(|row| row["of"] == "messages");
    let lags: Vec<_> = of_messages.map(|row| (&row["group"], &row["topic"], row["lag"].as_u64().unwrap())).collect();
    let (crowd, two) = (&"crowd".into(), &"crowd.of-two".into());
    assert_eq!(lags, [(&"a".into(), crowd, 2), (&"b".into(), crowd, 2), (&"c".into(), two, 1)], "{rows:?}");
    assert_eq!(rows.len(), 9, "with replays and dead letters: {rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_redis_without_a_group_lag_is_of_every_group() {
    let Some(redis) = or_skip(Redis::shared().await) else { return };
    without_a_group_lag_is_of_every_group(&redis.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_kafka_without_a_group_lag_is_of_every_group() {
    let Some(kafka) = or_skip(Kafka::shared().await) else { return };
    without_a_group_lag_is_of_every_group(&kafka.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_rabbitmq_which_does_not_tell_its_groups_lag_wants_one() {
    let Some(rabbitmq) = or_skip(RabbitMq::shared().await) else { return };
    let url = rabbitmq.url();
    connect(&url).await.admin().ensure_topic("crowd", &TopicSpec::default()).await.unwrap();
    let refused = run(&["--url", &url, "lag", "--topic", "crowd"]).await;
    assert!(refused.code == 2 && refused.err.contains("GROUP has to be given"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_names_what_is_wrong() {
    let Some(redis) = or_skip(Redis::shared().await) else { return };
    let (url, topic) = (redis.url(), "examined");
    let messaging = connect(&url).await;
    let group = Handler::default().run(&messaging, "g", topic).await;
    let well = run(&["--url", &url, "--json", "doctor", "g", "--topic", topic, "--partitions", "16"]).await.objects();
    assert!(well.iter().all(|check| check["ok"] != false), "{well:?}");
    assert!(well.iter().any(|check| check["check"] == "fencing_token" && check["found"] == "yes"), "{well:?}");
    let ill = run(&["--url", &url, "doctor", "h", "--topic", topic, "--partitions", "8"]).await;
    assert!(ill.code == 1 && ill.out.contains("16 partitions, not 8"), "{ill:?}");
    assert!(ill.out.contains("group h has not joined on examined yet"), "{ill:?}");
    group.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_names_what_a_change_would_lose() {
    let (Some(redis), Some(rabbitmq)) = (or_skip(Redis::shared().await), or_skip(RabbitMq::shared().await)) else {
        return;
    };
    let lost = run(&["--json", "doctor", "--from", &redis.url(), "--to", &rabbitmq.url()]).await;
    assert_eq!(lost.code, 1, "{lost:?}");
    let rows: Vec<serde_json::Value> = lost.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> =
        rows.iter().filter(|row| row["lost"] == true).map(|row| row["capability"].as_str().unwrap()).collect();
    assert_eq!(names, ["retains_history", "fencing_token", "fenced_dead_letter"]);
    assert_eq!(run(&["doctor", "--from", &rabbitmq.url(), "--to", &rabbitmq.url()]).await.code, 0);
}

#[tokio::test]
async fn a_broker_that_is_away_is_a_failure_and_shows_no_secret() {
    let away = run(&["--url", "redis://me:hunter2@127.0.0.1:1?connect_timeout=1s", "doctor"]).await;
    assert!(away.code == 1 && away.out.contains("connect"), "{away:?}");
    let list =
        run(&["--url", "amqp://me:hunter2@127.0.0.1:1?connect_timeout=1s", "dead-letters", "list", "g", "t"]).await;
    assert!(list.code == 1 && list.err.contains("amqp://me:***@127.0.0.1:1"), "{list:?}");
    assert!(![away.out, away.err, list.out, list.err].concat().contains("hunter2"));
}
