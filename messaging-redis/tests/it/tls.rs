//! TLS: the server's certificate is checked, ours is shown.

use std::{path::Path, time::Duration};

use messaging::{ErrorKind, MessagingConfig, configure_messaging};
use messaging_redis::RedisBackend;
use test_brokers::Redis;

use crate::{
    ask,
    group::{Log, connect, lag, logging, ok, publish, until_async},
    show_log,
};

async fn secured() -> Option<Redis> {
    show_log();
    test_brokers::or_skip(Redis::options().tls().start().await)
}

/// The certificates that a client needs, as files: the authority's, its own, its key.
fn files(redis: &Redis, folder: &Path) -> [String; 3] {
    let (_, certificates) = redis.tls().unwrap();
    let texts = [
        ("authority.pem", certificates.authority()),
        ("client.pem", certificates.client_certificate()),
        ("key.pem", certificates.client_key()),
    ];
    texts.map(|(name, text)| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    })
}

async fn round_trip(url: &str, options: &str) {
    let messaging = connect(url, options).await;
    let log = Log::default();
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    publish(&messaging, "t", &["k", "l"], 0..50).await;
    log.until_len(50).await;
    until_async("everything to be settled", || async { lag(&messaging, "t").await == 0 }).await;
    running.shutdown(Duration::from_secs(5)).await.unwrap();
    messaging.close(Duration::from_secs(5)).await.unwrap();
}

async fn refusal(url: &str) -> messaging::Error {
    let config = MessagingConfig::from_url(url).unwrap();
    configure_messaging(&config, vec![Box::new(RedisBackend)]).await.map(drop).unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_trusted_by_its_authority_alone() {
    let Some(redis) = secured().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let [authority, ..] = files(&redis, folder.path());
    let url = format!("rediss://localhost:{}", redis.tls().unwrap().0);
    round_trip(&url, &format!("ca_file={authority}")).await;
    // By the usual authorities it is nobody.
    let error = refusal(&url).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    let error = refusal(&format!("{url}?ca_file=/nowhere.pem")).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("ca_file"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_shown_to_a_server_that_asks_for_one() {
    let Some(redis) = secured().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let [authority, certificate, key] = files(&redis, folder.path());
    let _: String = ask(&redis, &["CONFIG", "SET", "tls-auth-clients", "yes"]).await;
    let url = format!("rediss://localhost:{}", redis.tls().unwrap().0);
    let error = refusal(&format!("{url}?ca_file={authority}")).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let error = refusal(&format!("{url}?ca_file={authority}&cert_file={certificate}")).await;
    assert!(error.to_string().contains("private_key_file"), "{error}");
    round_trip(&url, &format!("ca_file={authority}&cert_file={certificate}&private_key_file={key}")).await;
}
