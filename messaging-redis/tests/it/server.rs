//! What is refused at the start, by name; users of the access control list.

use messaging::{Delivery, Error, ErrorKind, MessagingConfig, Router, TopicSpec, configure_messaging};
use messaging_redis::RedisBackend;

use crate::{
    ask,
    group::{Log, connect, logging, ok, publish},
    redis, redis_with,
};

async fn refusal(url: &str) -> Error {
    let config = MessagingConfig::from_url(url).unwrap();
    configure_messaging(&config, vec![Box::new(RedisBackend)]).await.map(drop).unwrap_err()
}

#[tokio::test]
async fn a_server_without_an_append_only_file_is_refused_unless_memory_will_do() {
    let Some(redis) = redis_with(&["--appendonly", "no"]).await else { return };
    let error = refusal(&redis.url()).await;
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("appendonly") && error.to_string().contains("durability=memory"), "{error}");
    let messaging = connect(&redis.url(), "durability=memory").await;
    assert!(!messaging.capabilities().durable);
}

#[tokio::test]
async fn a_server_that_evicts_streams_is_refused() {
    let Some(redis) = redis_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]).await else { return };
    assert!(refusal(&redis.url()).await.to_string().contains("allkeys-lru"));
}

#[tokio::test]
async fn a_cluster_is_refused_by_its_mode_and_by_its_address() {
    assert!(refusal("redis://a:1,b:2").await.to_string().contains("cluster"));
    let Some(redis) = redis_with(&["--cluster-enabled", "yes"]).await else { return };
    let error = refusal(&redis.url()).await;
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("cluster"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_told_without_the_password() {
    let Some(redis) = redis_with(&["--requirepass", "sesame"]).await else { return };
    let error = refusal(&redis.url().replace("redis://", "redis://:wrong-secret@")).await;
    assert!(!error.to_string().contains("wrong-secret"), "{error}");
    assert!(error.to_string().contains("failed"), "{error}");
}

#[tokio::test]
async fn nobody_at_the_address_is_told_in_time() {
    let error = refusal("redis://127.0.0.1:1?connect_timeout=500ms").await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn another_number_of_partitions_is_refused_naming_both() {
    let Some(redis) = redis().await else { return };
    let four = connect(&redis.url(), "partitions=4").await;
    publish(&four, "t", &["k"], 0..1).await;
    let five = connect(&redis.url(), "partitions=5").await;
    let log = Log::default();
    let errors = [
        five.publish_raw(messaging::Message::new("t", "x")).await.map(drop).unwrap_err(),
        five.run_one(logging("t", "a", &log, ok)).await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains('4') && error.to_string().contains('5'), "{error}");
    }
    // Who expects no number takes what there is.
    let any = connect(&redis.url(), "").await;
    publish(&any, "t", &["k"], 1..2).await;
    assert_eq!(any.admin().describe("t").await.unwrap().unwrap().partitions, 4);
    let mut spec = TopicSpec::default();
    spec.retention_bytes = Some(1);
    let error = any.admin().ensure_topic("bytes", &spec).await.unwrap_err();
    assert!(error.to_string().contains("retention_bytes"), "{error}");
}

const PUBLISHING: &[&str] = &[
    "on",
    ">sesame",
    "~{t[:.}]*",
    "+xadd",
    "+multi",
    "+exec",
    "+wait",
    "+xinfo",
    "+xrange",
    "+xrevrange",
    "+xpending",
    "+xtrim",
    "+xlen",
    "+set",
    "+hsetnx",
    "+hgetall",
    "+evalsha",
    "+script|load",
    "+info",
    "+client|id",
    "+time",
];

const CONSUMING: &[&str] = &[
    "+xreadgroup",
    "+xack",
    "+xautoclaim",
    "+xgroup|create",
    "+xgroup|setid",
    "+hget",
    "+hmget",
    "+hset",
    "+hdel",
    "+client|kill",
    "+client|unblock",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_rights_are_enough_and_each_one_that_is_missing_is_named() {
    let Some(redis) = redis().await else { return };
    let set_user = |rules: &[&'static str]| [&["ACL", "SETUSER", "worker"], rules].concat();
    let _: String = ask(&redis, &set_user(PUBLISHING)).await;
    let url = redis.url().replace("redis://", "redis://worker:sesame@");
    let publisher = connect(&url, "partitions=2&trim_interval=50ms").await;
    publish(&publisher, "t", &["k"], 0..1).await;
    let refused = publisher.run_one(Router::new("g").on_message("t", |_: Delivery| async {})).await.map(drop);
    assert!(refused.unwrap_err().to_string().contains("xreadgroup"));
    let _: String = ask(&redis, &set_user(CONSUMING)).await;
    let messaging = connect(&url, "partitions=2&retention_finished=true&trim_interval=50ms").await;
    let log = Log::default();
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    publish(&messaging, "t", &["k", "l"], 1..50).await;
    log.until_len(50).await;
    running.shutdown(std::time::Duration::from_secs(5)).await.unwrap();
    let handler = |_: Delivery| async {};
    for (rule, named) in
        [("-client|kill", "kill"), ("-xautoclaim", "xautoclaim"), ("-xtrim", "xtrim"), ("-xack", "xack")]
    {
        let _: String = ask(&redis, &["ACL", "SETUSER", "worker", rule]).await;
        let error = messaging.run_one(Router::new("g").on_message("t", handler)).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(named), "{rule}: {error}");
        let _: String = ask(&redis, &["ACL", "SETUSER", "worker", &rule.replace('-', "+")]).await;
    }
    let _: String = ask(&redis, &["ACL", "SETUSER", "worker", "-xadd"]).await;
    let error = refusal(&url).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("xadd"), "{error}");
    let _: String = ask(&redis, &["ACL", "SETUSER", "worker", "+xadd"]).await;
    let _: String = ask(&redis, &["ACL", "SETUSER", "worker", "resetkeys", "~{t:*"]).await;
    let error = messaging.run_one(Router::new("h").on_message("t", handler)).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("key"), "{error}");
}
