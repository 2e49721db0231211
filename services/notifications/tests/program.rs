//! The `notifications` program: its two processes, their settings, start and stop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use service_testing::{Answer, Client, Ended, Method, Program, StatusCode, TestDatabase, eventually};

fn start<'a>(process: &str, environment: impl IntoIterator<Item = (&'static str, &'a str)>) -> Program {
    Program::start(env!("CARGO_BIN_EXE_notifications"), &[process], environment)
}

/// Waits until the process is ready, and answers what it says of that.
async fn ready(client: &Client) -> Value {
    eventually("a process that is ready", async || {
        let answer = client.get("/health/ready").await;
        (answer.status == StatusCode::OK).then_some(answer.body)
    })
    .await
}

#[tokio::test]
async fn a_wrong_setting_is_named_and_ends_the_program() {
    const DATABASE: (&str, &str) = ("DATABASE_URL", "sqlite::memory:");
    const BROKER: (&str, &str) = ("MESSAGING_URL", "memory:");
    for (process, environment, message) in [
        ("api", vec![], "DATABASE_URL: is not set"),
        ("api", vec![DATABASE, ("LISTEN_ADDR", "8000")], "LISTEN_ADDR: expected an IP address and a port"),
        ("consumer", vec![], "DATABASE_URL: is not set"),
        ("consumer", vec![DATABASE], "messaging: no broker is configured: set MESSAGING_URL"),
        ("consumer", vec![DATABASE, BROKER, ("SMTP_URL", "http://u:hunter2@mail")], "SMTP_URL: expected smtp://"),
        ("consumer", vec![DATABASE, BROKER, ("MAIL_FROM", "nobody")], "MAIL_FROM: expected `Name <user@example.com>`"),
        ("consumer", vec![DATABASE, BROKER, ("MAIL_DIR", "/dev/null/mail")], "MAIL_DIR: "),
    ] {
        let Ended { status, log } = start(process, environment).ended().await;
        assert_eq!(status.code(), Some(2), "{log}");
        assert!(log.contains(&format!("error: {message}")), "{message} is not in: {log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}

#[tokio::test]
async fn signals_end_both_processes_gracefully() {
    let database = TestDatabase::sqlite().await;
    for (process, checks) in [("api", 1), ("consumer", 3)] {
        for signal in [Program::terminate, Program::interrupt] {
            let environment =
                [("DATABASE_URL", database.url()), ("MESSAGING_URL", "memory:"), ("LISTEN_ADDR", "127.0.0.1:0")];
            let mut program = start(process, environment);
            let client = Client::new(program.address().await);
            let ready = ready(&client).await;
            assert_eq!(ready["checks"].as_object().unwrap().len(), checks, "{ready}");
            signal(&program);
            let Ended { status, log } = program.ended().await;
            assert_eq!(status.code(), Some(0), "{log}");
        }
    }
}

#[tokio::test]
async fn the_api_needs_no_broker_and_the_consumer_has_no_api() {
    let database = TestDatabase::sqlite().await;
    let settings = [("DATABASE_URL", database.url()), ("LISTEN_ADDR", "127.0.0.1:0")];
    let mut api = start("api", settings);
    let client = Client::new(api.address().await);
    assert_eq!(client.get("/api/v1/notifications/").await.status, StatusCode::OK);

    let mut consumer = start("consumer", settings.into_iter().chain([("MESSAGING_URL", "memory:")]));
    let client = Client::new(consumer.address().await);
    client.get("/api/v1/notifications/").await.is_problem(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_consumer_waits_for_its_broker_and_stops_while_it_waits() {
    let database = TestDatabase::sqlite().await;
    let nobody = "redis://127.0.0.1:1";
    let environment = [("DATABASE_URL", database.url()), ("MESSAGING_URL", nobody), ("LISTEN_ADDR", "127.0.0.1:0")];
    let mut program = start("consumer", environment);
    let client = Client::new(program.address().await);
    program.line_with("waiting for the broker").await;
    let ready = client.get("/health/ready").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    let checks = json!({"database": "ok", "messaging": "unavailable", "consumers": "not running"});
    assert_eq!(ready.body["checks"], checks);
    program.terminate();
    let Ended { status, log } = program.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn operators_pause_a_group_and_let_it_go_on() {
    let database = TestDatabase::sqlite().await;
    let free = "127.0.0.1:0";
    let settings = [("DATABASE_URL", database.url()), ("MESSAGING_URL", "memory:"), ("LISTEN_ADDR", free)];
    let mut program = start("consumer", settings.into_iter().chain([("ADMIN_LISTEN_ADDR", free)]));
    let operators = Client::new(program.address_after("serving operations").await);
    let everybody = Client::new(program.address().await);
    ready(&operators).await;

    let post = async |client: &Client, path: &str| Answer::to(client.request(Method::POST, path)).await;
    let groups = async || operators.get("/groups").await.body["groups"].clone();
    let mailer = |paused: bool| json!({"group": "notifications-mailer", "paused": paused});
    let service = json!({"group": "notifications-service", "paused": false});
    assert_eq!(groups().await, json!([mailer(false), service]));
    // Twice is as good as once.
    for _ in 0..2 {
        let paused = post(&operators, "/groups/notifications-mailer/pause").await;
        assert_eq!((paused.status, paused.body), (StatusCode::OK, mailer(true)));
    }
    assert_eq!(groups().await, json!([mailer(true), service]));
    let resumed = post(&operators, "/groups/notifications-mailer/resume").await;
    assert_eq!((resumed.status, resumed.body), (StatusCode::OK, mailer(false)));
    assert_eq!(groups().await, json!([mailer(false), service]));

    post(&operators, "/groups/nobody/pause").await.is_problem(StatusCode::NOT_FOUND);
    operators.get("/groups/notifications-mailer/pause").await.is_problem(StatusCode::METHOD_NOT_ALLOWED);
    everybody.get("/groups").await.is_problem(StatusCode::NOT_FOUND);
    post(&everybody, "/groups/notifications-mailer/pause").await.is_problem(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn without_a_port_of_their_own_operators_pause_nothing() {
    let database = TestDatabase::sqlite().await;
    let settings = [("DATABASE_URL", database.url()), ("MESSAGING_URL", "memory:"), ("LISTEN_ADDR", "127.0.0.1:0")];
    let mut program = start("consumer", settings);
    let client = Client::new(program.address().await);
    ready(&client).await;
    client.get("/groups").await.is_problem(StatusCode::NOT_FOUND);
    let paused = client.request(Method::POST, "/groups/notifications-mailer/pause");
    Answer::to(paused).await.is_problem(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_check_looks_at_the_groups_and_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notifications.db");
    let url = format!("sqlite:{}", file.display());
    let settings = [("DATABASE_URL", url.as_str()), ("MESSAGING_URL", "memory:")];
    let check = ["consumer", "--check-config"];
    let Ended { status, log } = Program::start(env!("CARGO_BIN_EXE_notifications"), &check, settings).ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    for group in ["group notifications-service of topics order-events", "group notifications-mailer of topics"] {
        assert!(log.contains(group), "{log}");
    }
    assert!(!file.exists());
}

#[test]
fn the_document_has_every_setting() {
    let document = include_str!("../../README.md");
    let table = service_kit::settings::markdown(notifications::startup::SETTINGS);
    let missing: Vec<_> = table.lines().filter(|line| !document.contains(line)).collect();
    assert!(missing.is_empty(), "not in services/README.md:\n{}", missing.join("\n"));
}
