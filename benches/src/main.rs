//! The benchmarks: each prints a readable table, and one JSON line per figure.
//!
//! Run them by `cargo xtask bench NAME…`, which builds with link-time optimisation.

use benches::{concurrency, memory};
use clap::{Parser, ValueEnum};

#[derive(Parser)]
#[command(about = "Benchmarks: a table, and a JSON line per figure")]
struct Arguments {
    /// Which to run.
    #[arg(required_unless_present = "region")]
    names: Vec<Name>,
    /// Runs one measured region with so many messages and nothing else; for the instruction counter.
    #[arg(long, num_args = 2, value_names = ["REGION", "MESSAGES"], hide = true)]
    region: Option<Vec<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Instructions and allocations per message on the in-process bus, and key-ordered concurrency.
    Memory,
    /// Publishing and consuming on Kafka, against raw `rdkafka`.
    #[cfg(feature = "kafka")]
    Kafka,
    /// Publishing and consuming on RabbitMQ, against raw `lapin`.
    #[cfg(feature = "rabbitmq")]
    Rabbitmq,
    /// Publishing and consuming on Redis, against the raw `redis` client.
    #[cfg(feature = "redis")]
    Redis,
    /// Draining the outbox on PostgreSQL, and what the inbox costs a message; `OUTBOX_ROWS` says how many rows.
    #[cfg(feature = "outbox")]
    Outbox,
    /// Everything that this program was built with.
    All,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(region) = arguments.region {
        let [name, messages] = region.as_slice() else { anyhow::bail!("--region takes a name and a number") };
        let region = memory::Region::named(name)?;
        region.run(messages.parse()?, &|work| work())?;
        return Ok(());
    }
    for name in arguments.names {
        let is = |one| name == one || name == Name::All;
        if is(Name::Memory) {
            memory::run()?;
            concurrency::run()?;
        }
        #[cfg(feature = "kafka")]
        if is(Name::Kafka) {
            in_a_task(benches::broker::kafka::run())?;
        }
        #[cfg(feature = "rabbitmq")]
        if is(Name::Rabbitmq) {
            in_a_task(benches::broker::rabbitmq::run())?;
        }
        #[cfg(feature = "redis")]
        if is(Name::Redis) {
            in_a_task(benches::broker::redis::run())?;
        }
        #[cfg(feature = "outbox")]
        if is(Name::Outbox) {
            tokio::runtime::Runtime::new()?.block_on(benches::outbox::run())?;
        }
    }
    Ok(())
}

/// Does something in a task of a runtime, from where services publish: the thread that blocks on the runtime is none of
/// its workers, and another one is woken for whatever it is to be told.
#[cfg(any(feature = "kafka", feature = "rabbitmq", feature = "redis"))]
fn in_a_task(work: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(runtime.spawn(work))?
}
