//! A metrics recorder that can be read: skipped and lost messages are known by their counters alone.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;

/// Every counter and gauge by its name and labels.
#[derive(Default)]
struct Meters(Mutex<HashMap<Key, Arc<AtomicU64>>>);

static METERS: LazyLock<Meters> = LazyLock::new(Meters::default);

/// Lets this process's counters be read from now on. A recorder that stands already stays, and then nothing can be
/// read: what should have been counted is missed by the tests that look for it.
pub(crate) fn install() {
    static INSTALLED: LazyLock<bool> = LazyLock::new(|| metrics::set_global_recorder(&*METERS).is_ok());
    LazyLock::force(&INSTALLED);
}

/// The sum of a counter over everything that has this group as its label.
pub(crate) fn counter(name: &str, group: &str) -> u64 {
    sum(name, group, |value| value)
}

/// The sum of a gauge over everything that has this group as its label.
pub(crate) fn gauge(name: &str, group: &str) -> f64 {
    let meters = METERS.0.lock();
    let found = meters.iter().filter(|(key, _)| is(key, name, group));
    found.map(|(_, value)| f64::from_bits(value.load(Ordering::Relaxed))).sum()
}

fn sum(name: &str, group: &str, read: impl Fn(u64) -> u64) -> u64 {
    let meters = METERS.0.lock();
    meters.iter().filter(|(key, _)| is(key, name, group)).map(|(_, value)| read(value.load(Ordering::Relaxed))).sum()
}

fn is(key: &Key, name: &str, group: &str) -> bool {
    key.name() == name && key.labels().any(|label| label.key() == "group" && label.value() == group)
}

impl Meters {
    fn meter(&self, key: &Key) -> Arc<AtomicU64> {
        self.0.lock().entry(key.clone()).or_default().clone()
    }
}

impl Recorder for &'static Meters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.meter(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.meter(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
