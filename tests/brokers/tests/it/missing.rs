//! Brokers that this machine cannot have: passed over by a person's run, a failure of CI's.

use std::process::{Command, Output};

use test_brokers::{Kind, Redis, Summary, or_skip};

/// A role that the tests below play in a process of its own, as it needs an environment.
#[tokio::test]
#[ignore = "a role of other tests"]
async fn role_without_brokers() {
    if std::env::var("TEST_BROKERS_SOURCES").as_deref() != Ok("nowhere") {
        return;
    }
    let summary = Summary::gather(&Kind::ALL).await;
    assert_eq!(summary.missing(), Kind::ALL);
    println!("{summary}");
    if or_skip(Redis::start_new().await).is_none() {
        println!("passed over");
    }
}

fn role(ci: &str) -> Output {
    let mut role = Command::new(std::env::current_exe().unwrap());
    role.args(["--exact", "missing::role_without_brokers", "--ignored", "--nocapture"]);
    role.env("TEST_BROKERS_SOURCES", "nowhere").env("CI", ci);
    role.env_remove("TEST_REDIS_URL").output().unwrap()
}

#[test]
fn a_missing_broker_is_named_and_passed_over() {
    let output = role("");
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{errors}");
    assert!(out.contains("Apache Kafka is missing") && out.contains("passed over"), "{out}");
    assert!(errors.contains("skipped: Redis is missing"), "{errors}");
}

#[test]
fn a_missing_broker_fails_ci() {
    let output = role("true");
    assert!(!output.status.success());
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("Redis is missing") && !out.contains("passed over"), "{out}");
}
