//! Both services over one bus, started and stopped together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use messaging::MessagingConfig;
use messaging_backends::backends;
use notifications::mailer::LogMailer;
use notifications::store::NotificationStore;
use orders::service::OrderService;
use orders::store::OrderStore;
use service_kit::broker::{self, Consumers};
use service_kit::check::Findings;
use service_kit::outbox::{self, Relay, RelaySettings};
use service_kit::process::Program;
use service_kit::{BoxFuture, Environment, StartError, http, telemetry};
use tokio_util::sync::CancellationToken;

use crate::settings::{self, Settings};

/// How long events that were not handled at the stop may take. Those that take longer are handled after the next start:
/// the bus forgets them with the process, the outbox does not.
const SETTLE_DEADLINE: Duration = Duration::from_secs(10);

pub(crate) const SHOP: Program = Program { name: "shop", settings: settings::SETTINGS, run, check };

fn check(environment: Environment) -> BoxFuture<'static, Result<Findings, StartError>> {
    Box::pin(async move {
        let Settings { orders, notifications, data } = Settings::from_environment(&environment)?;
        Ok(vec![
            format!("orders on {orders}, notifications on {notifications}"),
            format!("databases in {}", data.display()),
            "broker memory:".to_owned(),
        ])
    })
}

fn run(environment: Environment, stop: CancellationToken) -> BoxFuture<'static, Result<(), StartError>> {
    Box::pin(open(environment, stop))
}

async fn open(environment: Environment, stop: CancellationToken) -> Result<(), StartError> {
    let settings = Settings::from_environment(&environment)?;
    let metrics = telemetry::install_metrics()?;
    let orders_listener = http::bind_for(settings::ORDERS_ADDR, settings.orders).await?;
    let notifications_listener = http::bind_for(settings::NOTIFICATIONS_ADDR, settings.notifications).await?;
    let orders = OrderStore::open(&settings.database("orders")).await?;
    let notifications = NotificationStore::open(&settings.database("notifications")).await?;
    let messaging = broker::connect(&MessagingConfig::from_url("memory:")?.source("shop"), backends()).await?;
    broker::declare(&messaging, environment.topics()).await?;
    let orders_outbox = outbox::open(orders.database(), &messaging).await?;
    let notifications_outbox = outbox::open(notifications.database(), &messaging).await?;
    let handlers = notifications::startup::consumers(&notifications, &notifications_outbox, Arc::new(LogMailer));
    let consumers = Consumers::default();
    consumers.join(&messaging, handlers).await?;
    let relays =
        [Relay::start(&orders_outbox, relaying()).await?, Relay::start(&notifications_outbox, relaying()).await?];

    if let (Ok(orders), Ok(notifications)) = (orders_listener.local_addr(), notifications_listener.local_addr()) {
        say_what_to_try(orders, notifications);
    }

    // First no more requests, then every notification of the orders that were taken, then nobody handles events any more.
    let apis = stop.child_token();
    let consuming = CancellationToken::new();
    let serving = async {
        let service = OrderService::new(orders.clone(), orders_outbox);
        tokio::join!(
            orders::startup::serve(service, orders_listener, metrics.clone(), apis.clone()),
            notifications::startup::serve(notifications.clone(), notifications_listener, metrics, apis.clone()),
        );
        if let Err(error) = messaging.settled(SETTLE_DEADLINE).await {
            tracing::warn!(%error, "stopping with events that were not handled: they are at the next start");
        }
        consuming.cancel();
    };
    let consumed = async {
        let result = consumers.run(consuming.clone()).await;
        // If the consumers end by themselves, so does the shop.
        apis.cancel();
        result
    };
    let ((), consumed) = tokio::join!(serving, consumed);

    for relay in relays {
        relay.stop().await;
    }
    broker::close(&messaging).await;
    orders.database().close().await;
    notifications.database().close().await;
    consumed
}

/// The databases belong to this process alone: whoever had the leases before it is gone, or about to be.
fn relaying() -> RelaySettings {
    let mut settings = RelaySettings::default();
    settings.lease = Duration::from_secs(2);
    settings.publish_deadline = Duration::from_secs(1);
    settings
}

fn say_what_to_try(orders: SocketAddr, notifications: SocketAddr) {
    tracing::info!(
        "the shop is open; try: curl -X POST http://{orders}/api/v1/orders/ -H 'Content-Type: application/json' \
         -d '{{\"user_id\": 1, \"user_email\": \"user@example.com\", \"total\": \"99.99\"}}' \
         && curl http://{notifications}/api/v1/notifications/"
    );
}
