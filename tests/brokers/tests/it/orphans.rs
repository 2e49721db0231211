//! A test process that is killed leaves nothing behind.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use test_brokers::{Broker, Kafka, Postgres, RabbitMq, Redis, is_alive, or_skip, started_at};

const ROLE: &str = "TEST_BROKERS_ROLE";

/// A role that the tests below play in a process of its own: it owns brokers until it is ended.
#[tokio::test]
#[ignore = "a role of other tests"]
async fn role_of_an_owner() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (redis, postgres, rabbitmq, kafka) =
        tokio::join!(Redis::start_new(), Postgres::start_new(), RabbitMq::start_new(), Kafka::start_new());
    let (redis, postgres, rabbitmq, kafka) = (or_skip(redis), or_skip(postgres), or_skip(rabbitmq), or_skip(kafka));
    let brokers: [Option<&Broker>; 4] = [redis.as_deref(), postgres.as_deref(), rabbitmq.as_deref(), kafka.as_deref()];
    for broker in brokers.into_iter().flatten() {
        let node = &broker.nodes().unwrap()[0];
        println!("broker {} {}", node.pid().unwrap(), node.folder().display());
    }
    if role == "frozen" {
        for broker in brokers.into_iter().flatten() {
            broker.pause().await.unwrap();
        }
    }
    println!("complete");
    if role == "panic" {
        panic!("as it was told");
    }
    std::future::pending::<()>().await;
}

/// An owner and what it owns.
struct Owner {
    process: Child,
    brokers: Vec<(i32, u64, PathBuf)>,
}

fn owner(role: &str) -> Owner {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "orphans::role_of_an_owner", "--ignored", "--nocapture"]).env(ROLE, role);
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut brokers = Vec::new();
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == "complete" {
            return Owner { process, brokers };
        }
        if let Some((pid, folder)) = line.strip_prefix("broker ").and_then(|rest| rest.split_once(' ')) {
            let pid = pid.parse().unwrap();
            brokers.push((pid, started_at(pid).unwrap(), PathBuf::from(folder)));
        }
    }
    panic!("the owner ended: {:?}", process.wait());
}

impl Owner {
    /// Every process whose command line or environment names a broker's folder: also those that left its group.
    fn remains(&self) -> Vec<String> {
        let mut remains = Vec::new();
        for (pid, start, folder) in &self.brokers {
            if is_alive(*pid, *start) {
                remains.push(format!("process {pid}"));
            }
            if folder.exists() {
                remains.push(folder.display().to_string());
            }
            let folder = folder.to_str().unwrap();
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let told =
                    ["cmdline", "environ"].map(|file| std::fs::read(entry.path().join(file)).unwrap_or_default());
                if told.iter().any(|text| String::from_utf8_lossy(text).contains(folder)) {
                    remains.push(format!("{:?} of {folder}", entry.file_name()));
                }
            }
        }
        remains
    }

    fn assert_nothing_remains(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let remains = self.remains();
            if remains.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind: {remains:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn brokers_end_with_an_owner_that_is_killed() {
    let mut owner = owner("running");
    assert!(owner.remains().len() >= 2 * owner.brokers.len());
    owner.process.kill().unwrap();
    owner.process.wait().unwrap();
    owner.assert_nothing_remains();
}

#[test]
fn frozen_brokers_end_with_an_owner_that_is_killed() {
    let mut owner = owner("frozen");
    owner.process.kill().unwrap();
    owner.process.wait().unwrap();
    owner.assert_nothing_remains();
}

#[test]
fn brokers_end_with_an_owner_that_panics() {
    let mut owner = owner("panic");
    assert!(!owner.process.wait().unwrap().success());
    owner.assert_nothing_remains();
}
