//! What one relay does for all: the gauges, and the inbox's clean-up.

use std::{collections::HashMap, time::Duration};

use messaging::Outcome;
use messaging_outbox::telemetry;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::{
    broker::{Answering, stored},
    given::{Database, Given, execute, on_each_database, order, quick, until},
};

on_each_database! {
    gauges_tell_what_is_left,
    the_inbox_forgets_after_its_window,
}

fn gauges(snapshots: &Snapshotter) -> HashMap<String, f64> {
    let metrics = snapshots.snapshot().into_vec().into_iter();
    let gauge = |value| if let DebugValue::Gauge(gauge) = value { Some(gauge.into_inner()) } else { None };
    metrics.filter_map(|(key, _, _, value)| Some((key.key().name().to_owned(), gauge(value)?))).collect()
}

async fn gauges_tell_what_is_left(database: Database) {
    let broker = Answering::new(|order, _| match order.order_id {
        1 => Outcome::rejected("too ugly"),
        2 => Outcome::unknown("away"),
        _ => stored(),
    });
    let given = Given::new(database, broker.broker()).await;
    given.record([order(1, 0), order(2, 0), order(2, 1), order(3, 0)]).await;
    let mut tx = given.outbox.begin().await.unwrap();
    tx.publish_after(&order(3, 1), Duration::from_secs(3_600)).await.unwrap();
    tx.commit().await.unwrap();
    let recorder: &'static DebuggingRecorder = Box::leak(Box::default());
    let mut settings = quick();
    settings.max_attempts = 2;
    settings.housekeeping = Duration::from_millis(20);
    let counting = metrics::set_default_local_recorder(recorder);
    let relay = given.outbox.start_relay(settings).await.unwrap();
    drop(counting);
    let snapshots = recorder.snapshotter();
    until(|| async {
        let gauges = gauges(&snapshots);
        let of = |name| gauges.get(name).copied();
        of(telemetry::PENDING) == Some(2.0)
            && of(telemetry::DELAYED) == Some(1.0)
            && of(telemetry::DEAD_ROWS) == Some(1.0)
            && of(telemetry::OLDEST_SECONDS).is_some_and(|seconds| seconds > 0.0)
    })
    .await;
    drop(relay);
}

async fn the_inbox_forgets_after_its_window(database: Database) {
    let broker = Answering::new(|_, _| stored());
    let given = Given::new(database, broker.broker()).await;
    // More than one batch of old ones, and one that is of the future by any clock.
    let numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) \
                   INSERT INTO messaging_inbox SELECT 'g', 's', CAST(i AS TEXT), 0, 1 FROM n";
    let numbers = if matches!(given.database.pool, messaging_outbox::Pool::Sqlite(_)) {
        "INSERT INTO messaging_inbox WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) \
         SELECT 'g', 's', CAST(i AS TEXT), 0, 1 FROM n"
    } else {
        numbers
    };
    execute(&given.database.pool, numbers).await;
    execute(&given.database.pool, "INSERT INTO messaging_inbox VALUES ('g', 's', 'new', 0, 9000000000000000)").await;
    let mut settings = quick();
    settings.housekeeping = Duration::from_millis(20);
    let relay = given.outbox.start_relay(settings).await.unwrap();
    given.until_count("messaging_inbox", 1).await;
    drop(relay);
}
