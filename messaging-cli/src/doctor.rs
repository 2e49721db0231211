//! `doctor`: whether the broker can be reached, whether the topology is what it should be, and what the broker can do; or
//! what would be lost by a change from one broker to another.

use std::{sync::Arc, time::Duration};

use messaging::{Address, Admin, Broker, Capability, dead_letter_topic, replay_topic};
use serde::Serialize;

use crate::{
    cli::Doctor,
    connect::{self, CLOSE_DEADLINE},
    failure::{Failure, full_text},
    output::Output,
    place::check_name,
};

/// How long the broker may take to answer.
const PING_DEADLINE: Duration = Duration::from_secs(5);

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    check: String,
    /// Nothing where it is as it is, neither right nor wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    ok: Option<bool>,
    found: String,
}

impl Check {
    fn new(check: impl Into<String>, ok: bool, found: impl Into<String>) -> Self {
        Self { check: check.into(), ok: Some(ok), found: found.into() }
    }

    fn fact(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), ok: None, found: found.into() }
    }
}

/// A capability of one broker beside that of another.
#[derive(Debug, Serialize)]
struct Compared {
    capability: String,
    from: String,
    to: String,
    lost: bool,
}

pub(crate) async fn run(url: Option<&str>, asked: &Doctor, out: &Output) -> Result<(), Failure> {
    if let (Some(from), Some(to)) = (&asked.from, &asked.to) {
        return compare(from, to, out).await;
    }
    let address = connect::address(url)?;
    if address.scheme == "memory" {
        // Says why.
        connect::to_broker(url).await?;
    }
    let mut checks = Vec::new();
    let broker = match connect::connect(&address).await {
        Ok(broker) => broker,
        Err(Failure::Failed(error)) => {
            checks.push(Check::new("connect", false, error));
            return told(&checks, out);
        }
        Err(other) => return Err(other),
    };
    checks.push(Check::new("connect", true, address.to_string()));
    let begun = std::time::Instant::now();
    checks.push(match broker.ping(PING_DEADLINE).await {
        Ok(()) => Check::new("ping", true, format!("{} ms", begun.elapsed().as_millis())),
        Err(error) => Check::new("ping", false, full_text(&error)),
    });
    for topic in &asked.topics {
        of_topic(&*broker.admin(), asked, topic, &mut checks).await?;
    }
    for capability in Capability::ALL {
        let has = broker.capabilities().has(capability);
        checks.push(Check::fact(capability.to_string(), yes(has)));
    }
    let most = broker.capabilities().max_message_bytes;
    checks.push(Check::fact("max_message_bytes", most.to_string()));
    let result = told(&checks, out);
    // Nothing was sent that could be lost.
    let _ = broker.close(CLOSE_DEADLINE).await;
    result
}

/// What a topic should be, and what a group should have beside it.
async fn of_topic(admin: &dyn Admin, asked: &Doctor, topic: &str, checks: &mut Vec<Check>) -> Result<(), Failure> {
    check_name("--topic", "topic", topic)?;
    let mut check = |what: String, ok: bool, found: String| checks.push(Check::new(what, ok, found));
    match admin.describe(topic).await {
        Ok(Some(info)) => {
            let there = info.partitions;
            let (ok, wanted) = match asked.partitions {
                Some(wanted) if wanted != there => (false, format!(", not {wanted}")),
                _ => (true, String::new()),
            };
            check(format!("topic {topic}"), ok, format!("{there} partitions{wanted}"));
        }
        Ok(None) => {
            check(format!("topic {topic}"), false, "does not exist".to_owned());
            return Ok(());
        }
        Err(error) => {
            check(format!("topic {topic}"), false, full_text(&error));
            return Ok(());
        }
    }
    let Some(group) = &asked.group else { return Ok(()) };
    check_name("GROUP", "group", group)?;
    for companion in [dead_letter_topic(topic, group), replay_topic(topic, group)] {
        match admin.describe(&companion).await {
            Ok(Some(info)) => check(format!("topic {companion}"), true, format!("{} partitions", info.partitions)),
            Ok(None) => check(
                format!("topic {companion}"),
                false,
                format!("does not exist: group {group} has not joined on {topic} yet"),
            ),
            Err(error) => check(format!("topic {companion}"), false, full_text(&error)),
        }
    }
    match admin.progress(group, topic).await {
        Ok(rows) => {
            let lag: u64 = rows.iter().map(|row| row.lag).sum();
            check(format!("group {group} on {topic}"), true, format!("lag {lag}"));
        }
        Err(error) => check(format!("group {group} on {topic}"), false, full_text(&error)),
    }
    Ok(())
}

fn told(checks: &[Check], out: &Output) -> Result<(), Failure> {
    out.table(["CHECK", "OK", "FOUND"], checks, |check| {
        [check.check.clone(), check.ok.map(yes).unwrap_or_default().to_owned(), check.found.clone()]
    })?;
    if checks.iter().all(|check| check.ok != Some(false)) { Ok(()) } else { Err(Failure::Told) }
}

async fn compare(from: &str, to: &str, out: &Output) -> Result<(), Failure> {
    let (from, to) = (reach("--from", from).await?, reach("--to", to).await?);
    let (before, after) = (from.capabilities().clone(), to.capabilities().clone());
    let mut rows: Vec<Compared> = Capability::ALL
        .into_iter()
        .map(|capability| Compared {
            capability: capability.to_string(),
            from: yes(before.has(capability)).to_owned(),
            to: yes(after.has(capability)).to_owned(),
            lost: before.has(capability) && !after.has(capability),
        })
        .collect();
    rows.push(Compared {
        capability: "max_message_bytes".to_owned(),
        from: before.max_message_bytes.to_string(),
        to: after.max_message_bytes.to_string(),
        lost: after.max_message_bytes < before.max_message_bytes,
    });
    out.table(["CAPABILITY", from.name(), to.name(), ""], &rows, |row| {
        [row.capability.clone(), row.from.clone(), row.to.clone(), if row.lost { "lost" } else { "" }.to_owned()]
    })?;
    for broker in [from, to] {
        // Nothing was sent that could be lost.
        let _ = broker.close(CLOSE_DEADLINE).await;
    }
    if rows.iter().any(|row| row.lost) { Err(Failure::Told) } else { Ok(()) }
}

async fn reach(argument: &str, url: &str) -> Result<Arc<dyn Broker>, Failure> {
    let address: Address =
        url.parse().map_err(|error: messaging::Error| Failure::usage(format!("{argument}: {}", full_text(&error))))?;
    connect::connect(&address).await.map_err(|failure| match failure {
        Failure::Usage(text) => Failure::Usage(format!("{argument}: {text}")),
        Failure::Failed(text) => Failure::Failed(format!("{argument}: {text}")),
        other => other,
    })
}

fn yes(answer: bool) -> &'static str {
    if answer { "yes" } else { "no" }
}
