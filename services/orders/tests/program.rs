//! The `orders` program: settings, start, stop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;
use service_testing::{Client, Ended, Program, StatusCode, TestDatabase};

fn start<'a>(environment: impl IntoIterator<Item = (&'static str, &'a str)>) -> Program {
    Program::start(env!("CARGO_BIN_EXE_orders"), &["api"], environment)
}

/// A program that runs, on a free port.
fn running(database: &TestDatabase) -> Program {
    start([("DATABASE_URL", database.url()), ("MESSAGING_URL", "memory:"), ("LISTEN_ADDR", "127.0.0.1:0")])
}

#[tokio::test]
async fn a_wrong_setting_is_named_and_ends_the_program() {
    const DATABASE: (&str, &str) = ("DATABASE_URL", "sqlite::memory:");
    const BROKER: (&str, &str) = ("MESSAGING_URL", "memory:");
    for (environment, message) in [
        (vec![], "DATABASE_URL: is not set"),
        (vec![("DATABASE_URL", "")], "DATABASE_URL: is not set"),
        (vec![("DATABASE_URL", "mysql://root:hunter2@db/orders")], "DATABASE_URL: scheme `mysql` is not supported"),
        (vec![("DATABASE_URL", "orders")], "DATABASE_URL: not a URL"),
        (vec![DATABASE, ("CREATE_DATABASE", "perhaps")], "CREATE_DATABASE: expected true or false, found `perhaps`"),
        (vec![DATABASE, ("LISTEN_ADDR", "8000")], "LISTEN_ADDR: expected an IP address and a port"),
        (vec![DATABASE, BROKER, ("LISTEN_ADDR", "192.0.2.1:80")], "LISTEN_ADDR: cannot listen on 192.0.2.1:80"),
        (
            vec![DATABASE, ("RUST_LOG", "orders=chatty")],
            "RUST_LOG: expected such as `info,orders=debug`, found `orders=chatty`",
        ),
    ] {
        let Ended { status, log } = start(environment).ended().await;
        assert_eq!(status.code(), Some(2), "{log}");
        assert!(log.contains(&format!("error: {message}")), "{message} is not in: {log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}

#[tokio::test]
async fn an_unreachable_database_ends_the_program() {
    let url = "postgres://orders:hunter2@127.0.0.1:1/orders";
    let Ended { status, log } = start([("DATABASE_URL", url), ("MESSAGING_URL", "memory:")]).ended().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("error: database: "), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn orders_are_taken_before_the_broker_is_there() {
    let database = TestDatabase::sqlite().await;
    let nobody = "redis://shop:hunter2@127.0.0.1:1";
    let mut program =
        start([("DATABASE_URL", database.url()), ("MESSAGING_URL", nobody), ("LISTEN_ADDR", "127.0.0.1:0")]);
    let client = Client::new(program.address().await);
    let ready = client.get("/health/ready").await;
    assert_eq!(ready.status, StatusCode::OK, "{}", ready.body);
    assert_eq!(ready.body["checks"]["messaging"], "unavailable");
    let order = json!({"user_id": 1, "user_email": "user@example.com", "total": "99.99"});
    assert_eq!(client.post("/api/v1/orders/", &order).await.status, StatusCode::CREATED);
    program.line_with("waiting for the broker").await;
    program.terminate();
    let Ended { status, log } = program.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

/// It is no broker that is away, so nobody waits for it.
#[tokio::test]
async fn a_wrong_option_of_the_broker_ends_the_program() {
    let database = TestDatabase::sqlite().await;
    for (url, named) in [("redis://127.0.0.1:1?colour=red", "colour"), ("nats://127.0.0.1:1", "nats")] {
        let settings = [("DATABASE_URL", database.url()), ("MESSAGING_URL", url), ("LISTEN_ADDR", "127.0.0.1:0")];
        let Ended { status, log } = start(settings).ended().await;
        assert_eq!(status.code(), Some(2), "{log}");
        let error = log.lines().find(|line| line.starts_with("error: messaging: ")).unwrap();
        assert!(error.contains(named), "{log}");
    }
}

#[tokio::test]
async fn signals_end_it_gracefully() {
    let database = TestDatabase::sqlite().await;
    for signal in [Program::terminate, Program::interrupt] {
        let mut program = running(&database);
        let client = Client::new(program.address().await);
        assert_eq!(client.get("/health/ready").await.status, StatusCode::OK);
        signal(&program);
        let Ended { status, log } = program.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[tokio::test]
async fn metrics_count_requests_by_route() {
    let database = TestDatabase::sqlite().await;
    let mut program = running(&database);
    let client = Client::new(program.address().await);
    for path in ["/api/v1/orders/1", "/api/v1/orders/2/"] {
        assert_eq!(client.get(path).await.status, StatusCode::NOT_FOUND);
    }
    let metrics = client.request(service_testing::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let counter = r#"http_requests_total{method="GET",route="/api/v1/orders/{id}",status="404"} 2"#;
    assert!(metrics.contains(counter), "{metrics}");
}
