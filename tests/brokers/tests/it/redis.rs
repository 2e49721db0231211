//! Redis: the whole life of a broker.

use std::io::Write as _;
use std::time::Duration;

use test_brokers::{Error, Redis, or_skip};

use crate::wire::{connect, redis as ask};

#[tokio::test]
async fn what_was_written_survives_kill_and_stop_on_the_same_port() {
    let Some(redis) = or_skip(Redis::start_new().await) else { return };
    let port = redis.port();
    assert_eq!(redis.url(), format!("redis://127.0.0.1:{port}"));
    assert_eq!(ask(port, "SET a kept").unwrap(), "+OK");

    redis.kill().await.unwrap();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "a killed broker still listens");
    redis.start().await.unwrap();
    assert_eq!(ask(port, "GET a").unwrap(), "kept");

    redis.restart().await.unwrap();
    assert_eq!(ask(port, "GET a").unwrap(), "kept");
}

#[tokio::test]
async fn a_paused_broker_keeps_connections_and_answers_after_it_resumes() {
    let Some(redis) = or_skip(Redis::start_new().await) else { return };
    let mut connection = connect(redis.port());
    redis.pause().await.unwrap();
    connection.write_all(b"PING\r\n").unwrap();
    connection.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let silent = std::io::Read::read(&mut connection, &mut [0; 7]);
    assert!(silent.is_err(), "a frozen broker answered");

    redis.resume().await.unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = [0; 7];
    std::io::Read::read_exact(&mut connection, &mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[tokio::test]
async fn arguments_reach_the_server() {
    let Some(redis) = or_skip(Redis::options().args(["--requirepass", "sesame"]).start().await) else { return };
    assert!(ask(redis.port(), "GET a").unwrap().starts_with("-NOAUTH"));
}

#[tokio::test]
async fn a_start_that_fails_shows_what_the_broker_said() {
    let started = Redis::options().args(["--no-such-setting", "1"]).start().await;
    if started.as_ref().is_err_and(Error::is_missing) {
        return;
    }
    let error = started.unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error}");
    assert!(error.to_string().contains("no-such-setting"), "{error}");
}

#[tokio::test]
async fn what_does_not_fit_the_state_is_refused() {
    let Some(redis) = or_skip(Redis::start_new().await) else { return };
    assert!(matches!(redis.start().await, Err(Error::State { state: "running", .. })));
    assert!(matches!(redis.resume().await, Err(Error::State { state: "running", .. })));
    redis.stop().await.unwrap();
    redis.stop().await.unwrap();
    assert!(matches!(redis.pause().await, Err(Error::State { state: "down", .. })));
}

#[tokio::test]
async fn its_folder_goes_with_it() {
    let Some(redis) = or_skip(Redis::start_new().await) else { return };
    let node = &redis.nodes().unwrap()[0];
    let (folder, pid) = (node.folder().to_owned(), node.pid().unwrap());
    let start = test_brokers::started_at(pid).unwrap();
    assert!(test_brokers::is_alive(pid, start));
    drop(redis);
    assert!(!test_brokers::is_alive(pid, start));
    assert!(!folder.exists());
}

#[test]
fn a_shared_broker_outlives_the_runtime_that_started_it() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let Some(first) = or_skip(runtime().block_on(Redis::shared())) else { return };
    let second = runtime().block_on(Redis::shared()).unwrap();
    assert!(std::ptr::eq(first, second));
    assert_eq!(ask(second.port(), "PING").unwrap(), "+PONG");
    let route = runtime().block_on(second.route()).unwrap();
    assert_eq!(ask(route.proxies()[0].port(), "PING").unwrap(), "+PONG");
}
