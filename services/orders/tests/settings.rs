//! The settings file, `--check-config`, and the table of settings in the documents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use service_testing::{Client, Ended, Program, StatusCode, TestDatabase};
use tempfile::TempDir;

/// A settings file, until it goes away.
struct File {
    path: PathBuf,
    _folder: TempDir,
}

impl File {
    fn of(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.toml");
        std::fs::write(&path, text).unwrap();
        Self { path, _folder: folder }
    }

    fn start(&self, more: &[&str], environment: &[(&'static str, &str)]) -> Program {
        let arguments = [&["api", "--config", self.path.to_str().unwrap()], more].concat();
        Program::start(env!("CARGO_BIN_EXE_orders"), &arguments, environment.iter().copied())
    }

    async fn checked(&self, environment: &[(&'static str, &str)]) -> (i32, String) {
        let Ended { status, log } = self.start(&["--check-config"], environment).ended().await;
        (status.code().unwrap(), log)
    }
}

const GOOD: &str = "\
listen_addr = '127.0.0.1:0'
database_url = 'postgres://orders:hunter2@db/orders'
messaging_url = 'memory:'

[topics.order-events]
partitions = 12
";

#[tokio::test]
async fn a_program_runs_by_its_file_and_the_environment_wins() {
    let database = TestDatabase::sqlite().await;
    let file = File::of(GOOD);
    let mut program = file.start(&[], &[("DATABASE_URL", database.url())]);
    let client = Client::new(program.address().await);
    assert_eq!(client.get("/health/ready").await.status, StatusCode::OK);
    program.terminate();
    assert_eq!(program.ended().await.status.code(), Some(0));
}

#[tokio::test]
async fn a_check_tells_what_would_be_done_and_no_secret() {
    let (code, said) = File::of(GOOD).checked(&[("API_KEY", "hunter2-hunter2-hunter2")]).await;
    assert_eq!(code, 0, "{said}");
    for line in [
        "LISTEN_ADDR                  127.0.0.1:0  (settings file)",
        "API_KEY                      (not shown)  (environment)",
        "RUST_LOG                     info  (default)",
        "HTTP on 127.0.0.1:0, the API with a key, operations on the same port",
        "database postgres://db:5432/orders",
        "it lacks: durable",
        "topic order-events: would be made with 12 partitions",
    ] {
        assert!(said.contains(line), "`{line}` is not in:\n{said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_check_tells_of_a_broker_that_is_away() {
    let (code, said) =
        File::of(GOOD).checked(&[("MESSAGING_URL", "redis://u:hunter2@127.0.0.1:1?connect_timeout=1s")]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("was not reached") && said.contains("topic order-events: 12 partitions"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    for (change, environment, message) in [
        (
            "databse_url = 'hunter2'",
            vec![],
            "orders.toml: databse_url: there is no such setting; there are: listen_addr",
        ),
        ("log_format = 'xml'", vec![], "LOG_FORMAT: expected text or json, found `xml`"),
        ("api_key = 'hunter2'", vec![], "API_KEY: expected at least 16 visible characters"),
        ("admin_listen_addr = 9000", vec![], "ADMIN_LISTEN_ADDR: expected an IP address and a port"),
        ("otel_exporter_otlp_endpoint = 'hunter2'", vec![], "OTEL_EXPORTER_OTLP_ENDPOINT: expected a URL"),
        ("", vec![("MESSAGING_URL", "memory:?partition=3")], "messaging: "),
        ("", vec![("MESSAGING_URL", "pigeon://coop")], "messaging: no backend serves \"pigeon\""),
    ] {
        let (code, said) = File::of(&format!("{change}\n{GOOD}")).checked(&environment).await;
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(message), "`{message}` is not in:\n{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    let (code, said) = File::of(&format!("{GOOD}copies = 3")).checked(&[]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("topics.order-events: unknown field `copies`"), "{said}");
}

#[test]
fn the_document_has_every_setting() {
    let document = include_str!("../../README.md");
    let table = service_kit::settings::markdown(orders::startup::SETTINGS);
    let missing: Vec<_> = table.lines().filter(|line| !document.contains(line)).collect();
    assert!(missing.is_empty(), "not in services/README.md:\n{}", missing.join("\n"));
}
