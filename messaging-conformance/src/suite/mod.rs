//! The suite: one test per promise, over whatever a [`Factory`] makes.

mod promise;
mod sender;
mod world;

mod bounds;
mod capabilities;
mod churn;
mod deaths;
mod failing;
mod fidelity;
mod groups;
mod handover;
mod harm;
mod load;
mod obstructed;
mod order;
mod publishing;
mod starts;
mod stopping;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use libtest_mimic::{Arguments, Trial};
use parking_lot::Mutex;

pub use churn::SECONDS as CHURN_SECONDS;
pub use promise::Promise;
pub(crate) use promise::promise;
pub(crate) use sender::{Letter, Sender};
pub use world::World;

use crate::{
    checker::Figures,
    factory::{Factory, Pace},
    failure::{Checked, Failure},
    member, metering,
};

/// The variable that fixes what tests choose by chance.
pub const SEED: &str = "MESSAGING_TEST_SEED";

/// How many tests run at once unless the command line says otherwise: they wait more than they work.
const AT_ONCE: usize = 6;

/// The main function of a test program without libtest's harness: runs the suite over a backend, by the usual
/// command line; or plays a member, if the suite started this program for that.
#[must_use]
pub fn main(factory: impl Factory) -> ExitCode {
    let pace = factory.pace();
    perform(factory, promises(), pace)
}

/// The main function of a test program, as [`main`], whose only test has members come, go, die and freeze under load, for
/// so many seconds as [`CHURN_SECONDS`] says.
#[must_use]
pub fn churn(factory: impl Factory) -> ExitCode {
    let pace = factory.pace();
    // Each freeze takes a while, and so does what has piled up at the end.
    let pace = pace.limit(pace.limit + 2 * churn::time()).patience(pace.patience * 2);
    perform(factory, vec![churn::promise()], pace)
}

/// The main function of a test program, as [`main`], whose only test has ten members die under load, one after the other.
#[must_use]
pub fn deaths(factory: impl Factory) -> ExitCode {
    let pace = factory.pace();
    let pace = pace.limit(pace.limit + deaths::TIME);
    perform(factory, vec![deaths::promise()], pace)
}

fn perform(factory: impl Factory, promises: Vec<Promise>, pace: Pace) -> ExitCode {
    if member::is_role() {
        return member::play(&factory);
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let listing = arguments.list;
    let figures = Arc::new(Mutex::new(Vec::new()));
    let conclusion = libtest_mimic::run(&arguments, trials(Arc::new(factory), promises, pace, &figures));
    if !listing {
        show(&mut figures.lock());
    }
    conclusion.exit_code()
}

/// The suite's tests over a backend, for a test program that has others too. Such a program cannot play members, so
/// that this is for backends whose [clusters](crate::Cluster::url) have no address.
#[must_use]
pub fn tests(factory: Arc<dyn Factory>) -> Vec<Trial> {
    let pace = factory.pace();
    trials(factory, promises(), pace, &Arc::default())
}

type AllFigures = Arc<Mutex<Vec<(String, Figures)>>>;

fn trials(factory: Arc<dyn Factory>, promises: Vec<Promise>, pace: Pace, figures: &AllFigures) -> Vec<Trial> {
    let seed = seed();
    let missing = factory.missing();
    let lacks = factory.lacks();
    let trial = |promise: Promise| {
        let name = format!("{}::{}::{}", factory.name(), promise.sort(), promise.name);
        let lack = promise.needs.iter().find_map(|need| lacks.iter().find(|(lack, _)| lack == need));
        let ignored = match (&missing, lack) {
            (Some(missing), _) => Some(format!("not here: {missing}")),
            (None, Some((need, reason))) => Some(format!("not applicable, needs {need}: {reason}")),
            (None, None) => None,
        };
        let (factory, figures) = (factory.clone(), figures.clone());
        let test = Trial::test(name.clone(), move || {
            let (result, found) = run_at(&promise, factory, pace, seed);
            figures.lock().push((name, found));
            result.map_err(|failure| format!("{failure}\nwith {SEED}={seed}").into())
        });
        match ignored {
            Some(reason) => test.with_kind(reason).with_ignored_flag(true),
            None => test,
        }
    };
    promises.into_iter().map(trial).collect()
}

/// Every promise of the suite.
#[must_use]
pub fn promises() -> Vec<Promise> {
    [
        fidelity::promises(),
        publishing::promises(),
        groups::promises(),
        order::promises(),
        handover::promises(),
        failing::promises(),
        stopping::promises(),
        starts::promises(),
        bounds::promises(),
        capabilities::promises(),
        harm::promises(),
    ]
    .concat()
}

/// Runs the test of one promise; answers its result and what was counted.
pub fn run(promise: &Promise, factory: Arc<dyn Factory>, seed: u64) -> (Checked, Figures) {
    let pace = factory.pace();
    run_at(promise, factory, pace, seed)
}

fn run_at(promise: &Promise, factory: Arc<dyn Factory>, pace: Pace, seed: u64) -> (Checked, Figures) {
    metering::install();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return (Err(error.into()), Figures::default()),
    };
    let limit = pace.limit;
    let figures = Arc::new(Mutex::new(Figures::default()));
    let noted = figures.clone();
    let result = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let world = World::new(factory, promise, pace, seed, noted).await?;
            match tokio::time::timeout(limit, (promise.run)(&world)).await {
                Ok(result) => result,
                Err(_) => Err(Failure::new(format!("does not end within {} s", limit.as_secs()))),
            }
        })
    }));
    runtime.shutdown_timeout(Duration::from_secs(5));
    let result = result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Failure::new(format!("panicked: {}", text.unwrap_or("no message"))))
    });
    let figures = std::mem::take(&mut *figures.lock());
    (result, figures)
}

fn seed() -> u64 {
    let given = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    // Small enough to be typed again.
    given.unwrap_or_else(|| fastrand::u64(..1_000_000_000))
}

/// What was counted, for the tests that harmed somebody or saw repeats.
fn show(figures: &mut [(String, Figures)]) {
    figures.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (name, figures) in figures.iter() {
        if figures.repeated > 0 || figures.overlapped > 0 || !figures.recoveries.is_empty() {
            println!("{name}: {figures}");
        }
    }
}
