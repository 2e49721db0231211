//! `lag`: how far a group is behind on its topics, or every group of them, with the replays it has not handled and the dead letters that nobody
//! has resolved.

use messaging::{Admin, Broker, ErrorKind, Name, OPERATORS, dead_letter_topic, replay_topic};
use serde::Serialize;

use crate::{
    cli::Lag,
    failure::Failure,
    output::Output,
    place::{check_name, topic},
};

/// What is left to do on one partition, or on all of a topic.
#[derive(Debug, Serialize)]
struct Row {
    group: String,
    topic: String,
    of: Of,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settled_through: Option<String>,
    lag: u64,
}

/// What a row counts.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Of {
    /// Messages that the group has not settled.
    Messages,
    /// Dead letters that were handed to it once more, and that it has not settled.
    Replays,
    /// Dead letters of it that nobody has resolved.
    DeadLetters,
}

impl Of {
    fn text(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Replays => "replays",
            Self::DeadLetters => "dead letters",
        }
    }
}

pub(crate) async fn run(broker: &dyn Broker, asked: &Lag, out: &Output) -> Result<(), Failure> {
    if let Some(group) = &asked.group {
        check_name("GROUP", "group", group)?;
    }
    let admin = broker.admin();
    let mut rows: Vec<Row> = Vec::new();
    for name in &asked.topics {
        topic(&*admin, "--topic", name).await?;
        let groups = match &asked.group {
            Some(group) => vec![Name::new(group)],
            None => groups(&*admin, name).await?,
        };
        for group in groups {
            rows.extend(of_group(&*admin, &group, name).await?);
        }
    }
    if !asked.partitions {
        return out.table(["GROUP", "TOPIC", "OF", "LAG"], &summed(rows), |row| {
            [row.group.clone(), row.topic.clone(), row.of.text().to_owned(), row.lag.to_string()]
        });
    }
    out.table(["GROUP", "TOPIC", "OF", "PARTITION", "SETTLED", "LAG"], &rows, |row| {
        let partition = row.partition.map(|partition| partition.to_string()).unwrap_or_default();
        let settled = row.settled_through.clone().unwrap_or_else(|| "-".to_owned());
        [row.group.clone(), row.topic.clone(), row.of.text().to_owned(), partition, settled, row.lag.to_string()]
    })
}

/// Every group that the broker knows on a topic.
async fn groups(admin: &dyn Admin, topic: &str) -> Result<Vec<Name>, Failure> {
    match admin.groups(topic).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            Err(Failure::usage(format!("GROUP has to be given: {error}")))
        }
        answered => Ok(answered?),
    }
}

/// A group's messages of a topic, its replays and its dead letters.
async fn of_group(admin: &dyn Admin, group: &str, topic: &str) -> Result<Vec<Row>, Failure> {
    let mut rows = of_topic(admin, group, topic, Of::Messages).await?;
    for (of, companion, settled_by) in [
        (Of::Replays, replay_topic(topic, group), group),
        (Of::DeadLetters, dead_letter_topic(topic, group), OPERATORS),
    ] {
        // Without them the group has never been here.
        if admin.describe(&companion).await?.is_some() {
            rows.extend(of_topic(admin, settled_by, &companion, of).await?);
        }
    }
    Ok(rows)
}

async fn of_topic(admin: &dyn Admin, group: &str, topic: &str, of: Of) -> Result<Vec<Row>, Failure> {
    let progress = admin.progress(group, topic).await?;
    let rows = progress.into_iter().map(|progress| Row {
        group: group.to_owned(),
        topic: topic.to_owned(),
        of,
        partition: Some(progress.partition),
        settled_through: progress.watermark.map(|watermark| watermark.to_string()),
        lag: progress.lag,
    });
    Ok(rows.collect())
}

/// A row for each topic.
fn summed(rows: Vec<Row>) -> Vec<Row> {
    let mut sums: Vec<Row> = Vec::new();
    for row in rows {
        match sums.iter_mut().find(|sum| (&sum.group, &sum.topic) == (&row.group, &row.topic)) {
            Some(sum) => sum.lag += row.lag,
            None => sums.push(Row { partition: None, settled_through: None, ..row }),
        }
    }
    sums
}
