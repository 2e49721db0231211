//! What can be asked on the command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    letters::filter::{Rate, Since},
    publish::HeaderArgument,
};

/// Looks at topics, groups and dead letters of any broker, publishes, and resolves dead letters.
#[derive(Debug, Parser)]
#[command(name = "messaging", version, max_term_width = 120)]
pub(crate) struct Cli {
    /// The broker: kafka://host:9092, redis://host:6379, amqp://host:5672. Without it, the environment is read as
    /// services read it: MESSAGING_URL, or one of KAFKA_BOOTSTRAP_SERVERS, REDIS_URL, RABBITMQ_URL.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Print one JSON object per line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the messages of a topic, without joining any group.
    Tail(Tail),
    /// Publish one message: an event with --name, raw bytes without.
    Publish(Publish),
    /// Show how far a group is behind on its topics, or every group of them.
    Lag(Lag),
    /// Look at the dead letters of a group, hand them to it once more, or drop them.
    #[command(subcommand)]
    DeadLetters(Letters),
    /// Check the connection, the topology and what the broker can do; or compare two brokers.
    Doctor(Doctor),
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// The topic.
    pub(crate) topic: String,
    /// Where to begin; earliest, or with --follow latest, if not given.
    #[arg(long, value_enum)]
    pub(crate) from: Option<From>,
    /// Only this partition.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) partition: Option<u32>,
    /// Stop after so many messages.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) limit: Option<usize>,
    /// Go on with what is published from now on, until interrupted.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Show headers too.
    #[arg(long)]
    pub(crate) headers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    /// The oldest message that is still there.
    Earliest,
    /// What is published from now on.
    Latest,
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The topic.
    pub(crate) topic: String,
    /// The payload: text, `-` for the standard input, `@file` for a file's bytes.
    #[arg(value_name = "DATA")]
    pub(crate) data: String,
    /// The key, by which messages are ordered.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// The event's name, as in orders.created: gives the message an envelope with an id of its own.
    #[arg(long, value_name = "EVENT")]
    pub(crate) name: Option<String>,
    /// The event's source.
    #[arg(long, requires = "name", default_value = "messaging-cli")]
    pub(crate) source: String,
    /// The event's id, to publish one again; a new one if not given.
    #[arg(long, requires = "name")]
    pub(crate) id: Option<String>,
    /// A header, as name=value; as often as needed.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) header: Vec<HeaderArgument>,
    /// The payload's media type; application/json for events if not given.
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Lag {
    /// The group; every group of the topics, if not given.
    pub(crate) group: Option<String>,
    /// A topic of the group; as often as needed.
    #[arg(long = "topic", value_name = "TOPIC", required = true)]
    pub(crate) topics: Vec<String>,
    /// A row for each partition.
    #[arg(long)]
    pub(crate) partitions: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Letters {
    /// One line for each dead letter that is not resolved.
    List(Chosen),
    /// Payload, headers and what happened.
    Show(Chosen),
    /// Publish them for this group alone to handle once more, and resolve them.
    Replay(Resolve),
    /// Resolve them without anything else.
    Drop(Resolve),
}

/// Which dead letters.
#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// The group that gave the messages up.
    pub(crate) group: String,
    /// The topic they came from.
    pub(crate) topic: String,
    /// Only events of this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) event: Option<String>,
    /// Only those whose error contains this text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) error: Option<String>,
    /// Only those that failed last since then: 30m, 2h, 7d, or a time such as 2026-01-31T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Since>,
    /// Only this one, by the id that `list` shows; as often as needed.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Vec<String>,
    /// At most so many, the oldest first.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct Resolve {
    #[command(flatten)]
    pub(crate) chosen: Chosen,
    /// At most so many in a time: 10/s, 100/m.
    #[arg(long, value_name = "N/UNIT")]
    pub(crate) rate: Option<Rate>,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// A group to look at; needs --topic.
    #[arg(requires = "topics")]
    pub(crate) group: Option<String>,
    /// A topic that should be there; as often as needed.
    #[arg(long = "topic", value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,
    /// How many partitions each topic should have.
    #[arg(long, value_name = "N", requires = "topics")]
    pub(crate) partitions: Option<u32>,
    /// Compare: the broker that is in use.
    #[arg(long, value_name = "URL", requires = "to", conflicts_with_all = ["group", "topics"])]
    pub(crate) from: Option<String>,
    /// Compare: the broker to change to.
    #[arg(long, value_name = "URL", requires = "from")]
    pub(crate) to: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_holds() {
        Cli::command().debug_assert();
    }
}
