//! What groups were told is lost, as the library counts it.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;

static LOST: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);

/// Counts from now on.
pub(crate) fn count() {
    let _ = metrics::set_global_recorder(Lost);
}

/// How many messages of this topic were reported lost.
pub(crate) fn of(topic: &str) -> u64 {
    LOST.lock().get(topic).copied().unwrap_or(0)
}

struct Lost;

struct OfTopic(String);

impl CounterFn for OfTopic {
    fn increment(&self, value: u64) {
        *LOST.lock().entry(self.0.clone()).or_default() += value;
    }

    fn absolute(&self, _: u64) {}
}

impl Recorder for Lost {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let topic = key.labels().find(|label| label.key() == "topic");
        match topic {
            Some(topic) if key.name() == messaging::telemetry::LOST => {
                Counter::from_arc(Arc::new(OfTopic(topic.value().to_owned())))
            }
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
