//! [`contest`]: interleaved rounds of two contenders, and the figures they end in.

use std::{ops::Add, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};

use super::{
    Contender, Errand,
    cost::{Cost, Mark, nanos_per_message},
};
use crate::report::Row;

/// The variable that says how many rounds count; 3 unless it is set.
const ROUNDS: &str = "BENCH_ROUNDS";
/// The variable that says which sizes of payload; both unless it is set.
const BYTES: &str = "BENCH_BYTES";
/// How long the faster half of a run should take, which is the consuming, and what it may put on the disk. What begins
/// and ends a shorter one would be a good part of it.
const ROUND: Duration = Duration::from_secs(5);
const MOST_BYTES: usize = 1280 << 20;
/// What an event weighs beside its payload, roughly.
const ENVELOPE_BYTES: usize = 250;
/// Messages of the runs that come before, to warm up and to find out how many make a run.
const TRIAL: u64 = 100_000;
/// Nothing takes longer unless it hangs.
const LIMIT: Duration = Duration::from_secs(180);

/// What one side's runs took.
#[derive(Clone, Copy)]
struct Side {
    publish: Cost,
    consume: Cost,
}

/// Two runs of each side: ours, raw, raw, ours. What goes up and down from run to run in the broker, as a journal that
/// is full after every other one does, falls to both sides alike.
struct Round {
    ours: Side,
    raw: Side,
}

/// Has both sides do the same on the broker of this name, for each size of payload; a row for publishing and one for
/// consuming.
///
/// # Errors
/// If a broker fails, or a message is missing or came twice.
pub(crate) async fn contest(
    broker: &str,
    partitions: u32,
    ours: &dyn Contender,
    raw: &dyn Contender,
) -> anyhow::Result<Vec<Row>> {
    let rounds = std::env::var(ROUNDS).map_or(Ok(3), |given| given.parse()).context(ROUNDS)?;
    let only: Option<usize> = std::env::var(BYTES).ok().map(|given| given.parse()).transpose().context(BYTES)?;
    let mut rows = Vec::new();
    for payload_bytes in [1_024, 100].into_iter().filter(|bytes| only.is_none_or(|only| only == *bytes)) {
        let name = |round: &str| format!("{broker}-{payload_bytes}-{round}-{:08x}", fastrand::u32(..));
        let errand = |round: &str, messages| Arc::new(Errand::new(&name(round), partitions, messages, payload_bytes));
        let run = |side, errand: Arc<Errand>| async move {
            let taken = run(side, &errand).await?;
            // What is left behind costs the next run memory, not the figures their truth.
            if let Err(error) = raw.clean(&errand).await {
                eprintln!("{broker}: what a run left behind is still there: {error:#}");
            }
            anyhow::Ok(taken)
        };
        run(ours, errand("trial-ours", TRIAL)).await?;
        let trial = run(raw, errand("trial-raw", TRIAL)).await?;
        let fastest = trial.publish.per_second(TRIAL).max(trial.consume.per_second(TRIAL));
        let by_time = (fastest * ROUND.as_secs_f64()) as u64;
        let messages = by_time.clamp(TRIAL, (MOST_BYTES / (payload_bytes + ENVELOPE_BYTES)) as u64);
        // A broker that compiles itself while it runs is still at it after the trials.
        run(raw, errand("warm", messages)).await?;
        let ours = || async { run(ours, errand("ours", messages)).await };
        let raw = || async { run(raw, errand("raw", messages)).await };
        let mut measured = Vec::new();
        for number in 1..=rounds {
            let (first_ours, first_raw, raw, ours) = (ours().await?, raw().await?, raw().await?, ours().await?);
            let round = Round { ours: first_ours + ours, raw: first_raw + raw };
            eprintln!("{broker}, {payload_bytes} bytes, round {number} of {rounds}: {}", round.summary(2 * messages));
            measured.push(round);
        }
        for (what, cost) in [("publish", (|side| side.publish) as fn(&Side) -> Cost), ("consume", |side| side.consume)]
        {
            rows.push(row(format!("{broker}/{what}/{payload_bytes}"), 2 * messages, &measured, cost));
        }
    }
    Ok(rows)
}

/// One run of one side.
async fn run(side: &dyn Contender, errand: &Arc<Errand>) -> anyhow::Result<Side> {
    side.subscribe(errand).await.context("subscribing")?;
    let begin = Mark::now();
    tokio::time::timeout(LIMIT, side.publish(errand)).await.context("publishing hangs")??;
    let publish = Mark::now().since(begin);
    tokio::time::timeout(LIMIT, side.consume(errand))
        .await
        .with_context(|| format!("{} of {} messages arrived", errand.arrivals.count(), errand.messages))??;
    let consume = errand.arrivals.verdict()?;
    let unsettled = side.unsettled(errand).await.context("asking for the group's progress")?;
    ensure!(unsettled == 0, "{unsettled} messages were not settled");
    Ok(Side { publish, consume })
}

impl Add for Side {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { publish: self.publish + other.publish, consume: self.consume + other.consume }
    }
}

impl Round {
    fn summary(&self, messages: u64) -> String {
        let rate = |cost: Cost| format!("{:.0}k/s", cost.per_second(messages) / 1e3);
        let of = |side: &Side| format!("{} and {}", rate(side.publish), rate(side.consume));
        format!("{messages} messages, published and consumed: ours {}, raw {}", of(&self.ours), of(&self.raw))
    }
}

fn row(bench: String, messages: u64, rounds: &[Round], cost: fn(&Side) -> Cost) -> Row {
    let over = |figure: &dyn Fn(&Round) -> f64| -> Vec<f64> {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures
    };
    let median = |figures: &[f64]| figures.get(figures.len() / 2).copied().unwrap_or_default();
    let ours = |round: &Round| cost(&round.ours);
    let raw = |round: &Round| cost(&round.raw);
    let ratios = over(&|round| ours(round).per_second(messages) / raw(round).per_second(messages));
    let added = |part: fn(Cost) -> Duration| {
        let nanos = |side: Cost| nanos_per_message(part(side), messages);
        median(&over(&|round| nanos(ours(round)) - nanos(raw(round))))
    };
    let figures = vec![
        ("ours_per_second", median(&over(&|round| ours(round).per_second(messages)))),
        ("raw_per_second", median(&over(&|round| raw(round).per_second(messages)))),
        ("ratio_to_raw", median(&ratios)),
        ("ratio_lowest", ratios.first().copied().unwrap_or_default()),
        ("ratio_highest", ratios.last().copied().unwrap_or_default()),
        ("raw_cpu_ns", median(&over(&|round| nanos_per_message(raw(round).cpu, messages)))),
        ("added_cpu_ns", added(|cost| cost.cpu)),
        ("added_runtime_ns", added(|cost| cost.runtime)),
    ];
    let bar = if bench.ends_with("/100") { "added ≤ 300 ns" } else { "ratio ≥ 0.95" };
    Row { bench, figures, bar: bar.to_owned() }
}
