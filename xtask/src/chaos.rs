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
    /// Let members of a group come, go, die and freeze under load for ten minutes.
    Churn,
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
            Self::Churn => &[("MESSAGING_CHURN_SECONDS", "600")],
        }
    }

    /// The options of `cargo test` for this on a broker; `None` where there is no such test.
    fn test(self, broker: Broker) -> Option<Vec<String>> {
        let name = broker.to_possible_value()?.get_name().to_owned();
        if let Self::Churn = self {
            let package = format!("messaging-{name}");
            return (broker != Broker::Rabbitmq)
                .then(|| ["--package", &package, "--test", "churn"].map(str::to_owned).into());
        }
        let filter = format!("{}::{name}", self.to_possible_value()?.get_name());
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
