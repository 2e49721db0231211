//! `cargo xtask chaos`: the tests that break things, in their long forms. `cargo xtask test` runs the same tests for
//! seconds; here they go on for as long as it takes to believe them.

use clap::ValueEnum;

use crate::cargo::{cargo, succeeds};

/// What to break, and on which broker.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these; all of them unless one is named.
    what: Vec<What>,
    /// Only on this broker.
    #[arg(long)]
    broker: Option<Broker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Kill the services' programs in turn while the broker comes and goes.
    Flow,
    /// Kill them at each of the five places where a crash could lose an event or take effect twice, twenty times each.
    Crashes,
    /// Freeze consumers past their session, twenty times.
    Freezes,
    /// Freeze one of two relays past its lease, six times.
    Relays,
    /// Let members of a group come, go, die and freeze under load for four minutes: at least 60 joins, 60 leaves and 10
    /// freezes past the end of what the member owned, each other one idle.
    Churn,
    /// Publish ten million messages, then handle them; the program's memory is to stay what it is.
    Backlog,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Broker {
    Kafka,
    Redis,
    Rabbitmq,
}

/// The variables that make a test long; one that is set already stays.
type Variables = &'static [(&'static str, &'static str)];

impl What {
    fn variables(self) -> Variables {
        match self {
            Self::Flow => &[("END_TO_END_KILLS", "10"), ("END_TO_END_OUTAGE_SECONDS", "60")],
            Self::Crashes => &[("END_TO_END_CRASHES", "20")],
            Self::Freezes => &[("END_TO_END_FREEZES", "20")],
            Self::Relays => &[("END_TO_END_RELAY_FREEZES", "6")],
            Self::Churn => &[("MESSAGING_CHURN_SECONDS", "240")],
            Self::Backlog => &[("MESSAGING_BACKLOG", "10000000")],
        }
    }

    /// The options of `cargo test` for this on a broker; `None` where there is no such test.
    fn test(self, broker: Broker) -> Option<Vec<String>> {
        let name = broker.to_possible_value()?.get_name().to_owned();
        let what = self.to_possible_value()?.get_name().to_owned();
        let has_own = match self {
            Self::Churn => Some(broker != Broker::Rabbitmq),
            Self::Backlog => Some(broker == Broker::Redis),
            _ => None,
        };
        if let Some(has_own) = has_own {
            // Optimised: the members, their broker and the load share the machine.
            let options =
                ["--release", "--package", &format!("messaging-{name}"), "--test", &what, "--", "--nocapture"];
            return has_own.then(|| options.map(str::to_owned).into());
        }
        let filter = format!("{what}::{name}");
        let options = ["--package", "end-to-end", "--test", "services", &filter, "--", "--nocapture"];
        Some(options.map(str::to_owned).into())
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let named = &arguments.what;
    let mut held = true;
    for what in What::value_variants().iter().filter(|what| named.is_empty() || named.contains(what)) {
        for broker in
            Broker::value_variants().iter().filter(|broker| arguments.broker.is_none_or(|only| only == **broker))
        {
            let Some(options) = what.test(*broker) else { continue };
            let mut command = cargo(["test"]);
            command.args(options);
            for (variable, long) in what.variables() {
                if std::env::var_os(variable).is_none() {
                    command.env(variable, long);
                }
            }
            held &= succeeds(command)?;
        }
    }
    Ok(held)
}
