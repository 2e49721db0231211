//! The `notifications` program: its two processes, their settings, start and stop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use service_testing::{Client, Ended, Program, StatusCode, TestDatabase};

fn start<'a>(process: &str, environment: impl IntoIterator<Item = (&'static str, &'a str)>) -> Program {
    Program::start(env!("CARGO_BIN_EXE_notifications"), &[process], environment)
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
            let ready = client.get("/health/ready").await;
            assert_eq!(ready.status, StatusCode::OK, "{}", ready.body);
            assert_eq!(ready.body["checks"].as_object().unwrap().len(), checks);
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
