//! The `shop` program, killed under load: what it answered is kept, and told once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod shop;

use service_testing::{Customers, each_is_notified_once, until_notified};
use tokio::sync::watch;

use crate::shop::Shop;

/// Fewer than the handlers' slots, so that kills meet orders at every stage.
const CUSTOMERS: usize = 8;
const KILLS: usize = 5;
/// How many orders are completed between two kills.
const ORDERS: usize = 40;

#[tokio::test]
async fn a_shop_that_is_killed_loses_nothing_and_tells_nothing_twice() {
    let data = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(data.path()).await;
    let service = watch::Sender::new(shop.orders.clone());
    let mut customers = Customers::start(CUSTOMERS, &service.subscribe());
    for _ in 0..KILLS {
        customers.complete_more(ORDERS).await;
        shop.program.killed().await;
        shop = Shop::open(data.path()).await;
        service.send_replace(shop.orders.clone());
    }
    customers.complete_more(ORDERS).await;
    customers.leave().await;

    until_notified(&shop.orders, &shop.notifications).await;
    // A stop waits for all that is on its way, a repetition included.
    shop.closed().await;
    let shop = Shop::open(data.path()).await;
    let orders = each_is_notified_once(&shop.orders, &shop.notifications).await;
    assert!(orders >= KILLS * ORDERS, "{orders} orders");
    shop.closed().await;
}
