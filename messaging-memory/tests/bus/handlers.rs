//! What handlers can be: arguments, state, resources, layers, tasks of their own.

use std::{
    collections::HashSet,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use messaging::{
    Attempt, Begun, Delivery, Ending, Event, Fence, Finished, FromDelivery, FromRef, HandlerError, Headers, Json,
    Message, Position, Resource, ResourceContext, Route, Router, Scope, State,
};
use messaging_memory::MemoryBroker;
use parking_lot::Mutex;
use serde_json::Value;
use tower::{Layer, Service};

use crate::given::{OrderCreated, Seen, TOPIC, Watch, exact, millis, order};

/// A tenant, from a header.
#[derive(Debug, PartialEq)]
struct Tenant(String);

impl<S> FromDelivery<S> for Tenant {
    fn from_delivery(delivery: &Delivery, _: &Scope<S>) -> Result<Self, HandlerError> {
        let tenant = delivery.message.headers.get_str("tenant");
        tenant.map(|name| Self(name.to_owned())).ok_or_else(|| HandlerError::permanent("header `tenant` is missing"))
    }
}

#[tokio::test(start_paused = true)]
async fn arguments_are_taken_from_the_delivery() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let noted = seen.clone();
    let handler = move |event: Event<Value>,
                        tenant: Option<Tenant>,
                        headers: Headers,
                        attempt: Attempt,
                        position: Position,
                        fence: Fence| {
        noted.add((
            event.data["order_id"].clone(),
            tenant.map(|tenant| tenant.0),
            headers.iter().count(),
            (attempt.0, position, fence.epoch, fence.topic.to_string()),
        ));
        async {}
    };
    let router = Router::new("billing").topic(TOPIC).on_event("orders.created", handler);
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.messaging().publish_event(Event::new(order(7, 0)).with_header("tenant", "acme")).await.unwrap();
    bus.publish(&order(7, 1)).await.unwrap();
    bus.settled().await.unwrap();
    let place = |position| (1, Position::new(position), 1, TOPIC.to_owned());
    assert_eq!(
        seen.all(),
        [(Value::from(7), Some("acme".to_owned()), 1, place(0)), (Value::from(7), None, 0, place(1))]
    );
}

#[tokio::test(start_paused = true)]
async fn an_argument_that_cannot_be_taken_is_a_failure_of_its_kind() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let noted = seen.clone();
    let router = Router::new("billing").on_message("raw", move |tenant: Tenant| {
        noted.add(tenant.0);
        async {}
    });
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.messaging().publish_raw(Message::new("raw", "")).await.unwrap();
    bus.messaging().publish_raw(Message::new("raw", "").with_header("tenant", "acme")).await.unwrap();
    bus.settled().await.unwrap();
    let dead = bus.dead_letters("billing");
    assert_eq!((seen.all(), dead.len()), (vec!["acme".to_owned()], 1));
    assert_eq!(dead[0].letter.error, "header `tenant` is missing");
}

#[derive(Clone)]
struct App {
    greeting: &'static str,
    seen: Seen<String>,
    accounts: Arc<Accounts>,
}

impl FromRef<App> for Seen<String> {
    fn from_ref(app: &App) -> Self {
        app.seen.clone()
    }
}

impl App {
    fn new() -> Self {
        Self { greeting: "hello", seen: Seen::new(), accounts: Arc::default() }
    }
}

async fn greets(Json(name): Json<String>, State(app): State<App>, State(seen): State<Seen<String>>) {
    seen.add(format!("{} {name}", app.greeting));
}

#[tokio::test(start_paused = true)]
async fn handlers_share_the_routers_state_or_a_part_of_it() {
    let (bus, app) = (MemoryBroker::new(), App::new());
    let router = Router::new("greeter").on_message("names", greets).with_state(app.clone());
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.messaging().publish_raw(Message::new("names", r#""Ada""#)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(app.seen.all(), ["hello Ada"]);
}

/// A database: what was committed, and which messages it has seen end.
#[derive(Default)]
struct Accounts {
    committed: Mutex<Vec<i64>>,
    ended: Mutex<HashSet<(u32, Position)>>,
    trouble: Mutex<Vec<Trouble>>,
    begun: Mutex<usize>,
}

/// What goes wrong at the next call.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    Begin,
    Commit,
    CommitUnknown,
}

/// A transaction on it.
struct Booking {
    accounts: Arc<Accounts>,
    id: (u32, Position),
    bookings: Vec<i64>,
}

impl Booking {
    fn book(&mut self, account: i64) {
        self.bookings.push(account);
    }
}

impl Accounts {
    fn meets(&self, trouble: Trouble) -> bool {
        let mut due = self.trouble.lock();
        let found = due.first() == Some(&trouble);
        if found {
            due.remove(0);
        }
        found
    }
}

impl Resource<App> for Booking {
    async fn begin(context: ResourceContext<'_, App>) -> Result<Begun<Self>, HandlerError> {
        let accounts = context.state.accounts.clone();
        *accounts.begun.lock() += 1;
        tokio::time::sleep(millis(10)).await;
        if accounts.meets(Trouble::Begin) {
            return Err(HandlerError::infrastructure("database is locked"));
        }
        let id = (context.delivery.partition, context.delivery.position);
        let ended = accounts.ended.lock().contains(&id);
        Ok(if ended { Begun::Duplicate } else { Begun::Run(Self { accounts, id, bookings: Vec::new() }) })
    }

    async fn finish(self, ending: Ending) -> Finished {
        if ending == Ending::Failed {
            return Finished::RolledBack(HandlerError::transient("rolled back"));
        }
        if self.accounts.meets(Trouble::Commit) {
            return Finished::RolledBack(HandlerError::infrastructure("deadlock"));
        }
        self.accounts.ended.lock().insert(self.id);
        if ending == Ending::Handled {
            self.accounts.committed.lock().extend(&self.bookings);
        }
        if self.accounts.meets(Trouble::CommitUnknown) {
            return Finished::Unknown(HandlerError::transient("connection reset"));
        }
        Finished::Committed
    }
}

async fn book(event: Event<OrderCreated>, Attempt(attempt): Attempt, booking: &mut Booking) -> messaging::Result<()> {
    booking.book(event.data.order_id);
    match event.data.order_id {
        13 => Err(HandlerError::permanent("no such account")),
        14 if attempt < 3 => Err(HandlerError::transient("away")),
        15 => {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

async fn booking(bus: &MemoryBroker, app: &App) -> messaging::Running {
    let router = Router::new("billing").topic(TOPIC).on_event("orders.created", book);
    let policy = exact().timeout(millis(1_000)).max_attempts(3);
    bus.messaging().run_one(router.failure_policy(policy).with_state(app.clone())).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_resource_is_kept_when_the_handler_succeeds_and_undone_when_it_fails() {
    let (bus, app) = (MemoryBroker::new(), App::new());
    let _running = booking(&bus, &app).await;
    for id in [1, 13, 14, 15] {
        bus.publish(&order(id, 0)).await.unwrap();
    }
    bus.settled().await.unwrap();
    let mut committed = app.accounts.committed.lock().clone();
    committed.sort_unstable();
    assert_eq!(committed, [1, 14]);
    let dead: Vec<_> =
        bus.dead_letters("billing").into_iter().map(|dead| (dead.letter.attempts, dead.letter.error)).collect();
    assert_eq!(dead, [(1, "no such account".to_owned()), (3, "handler timed out after 1000 ms".to_owned())]);
    assert_eq!(app.accounts.ended.lock().len(), 4, "a dead letter is recorded too");
}

#[tokio::test(start_paused = true)]
async fn trouble_of_the_resource_is_no_attempt_and_a_commit_is_not_repeated() {
    for trouble in [Trouble::Begin, Trouble::Commit, Trouble::CommitUnknown] {
        let (bus, app) = (MemoryBroker::new(), App::new());
        app.accounts.trouble.lock().extend([trouble; 5]);
        let _running = booking(&bus, &app).await;
        bus.publish(&order(1, 0)).await.unwrap();
        bus.settled().await.unwrap();
        assert_eq!((app.accounts.committed.lock().clone(), bus.dead_letters("billing").len()), (vec![1], 0));
        let begun = if trouble == Trouble::CommitUnknown { 2 } else { 6 };
        assert_eq!(*app.accounts.begun.lock(), begun);
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_resource_is_no_handler_time() {
    let (bus, app, watch) = (MemoryBroker::new(), App::new(), Watch::start());
    let router = Router::new("billing")
        .topic(TOPIC)
        .on_event("orders.created", book)
        .failure_policy(exact().timeout(millis(5)))
        .with_state(app.clone());
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.publish(&order(1, 0)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!((watch.ms(), app.accounts.committed.lock().clone()), (10, vec![1]));
}

/// Notes when a handler is called and how it ends.
#[derive(Clone)]
struct Notes(Seen<(&'static str, &'static str)>, &'static str);

#[derive(Clone)]
struct Noting<S> {
    inner: S,
    notes: Notes,
}

impl<S> Layer<S> for Notes {
    type Service = Noting<S>;
    fn layer(&self, inner: S) -> Noting<S> {
        Noting { inner, notes: self.clone() }
    }
}

impl<S> Service<Delivery> for Noting<S>
where
    S: Service<Delivery, Response = (), Error = HandlerError>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = HandlerError;
    type Future = messaging::BoxFuture<Result<(), HandlerError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, delivery: Delivery) -> Self::Future {
        let Notes(seen, name) = self.notes.clone();
        seen.add((name, "before"));
        let handling = self.inner.call(delivery);
        Box::pin(async move {
            let outcome = handling.await;
            seen.add((name, if outcome.is_ok() { "ok" } else { "failed" }));
            outcome
        })
    }
}

#[tokio::test(start_paused = true)]
async fn layers_stand_around_handlers_the_routers_outside() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let handler = async |Attempt(attempt): Attempt| {
        tokio::time::sleep(millis(1)).await;
        if attempt == 1 { Err(HandlerError::transient("away")) } else { Ok(()) }
    };
    let route = Route::message("raw", handler).layer(Notes(seen.clone(), "inner"));
    let router = Router::new("g").route(route).layer(Notes(seen.clone(), "outer")).failure_policy(exact());
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.messaging().publish_raw(Message::new("raw", "")).await.unwrap();
    bus.settled().await.unwrap();
    let round = |end| [("outer", "before"), ("inner", "before"), ("inner", end), ("outer", end)];
    assert_eq!(seen.all(), [round("failed"), round("ok")].concat());
}

#[tokio::test(start_paused = true)]
async fn towers_own_layers_fit() {
    let (bus, watch, seen) = (MemoryBroker::new(), Watch::start(), Seen::new());
    let noted = seen.clone();
    let handler = move || {
        let seen = noted.clone();
        async move {
            seen.add(watch.ms());
            tokio::time::sleep(millis(10)).await;
        }
    };
    let route = Route::message("raw", handler).layer(tower::limit::ConcurrencyLimitLayer::new(2));
    let _running = bus.messaging().run_one(Router::new("g").route(route)).await.unwrap();
    for _ in 0..5 {
        bus.messaging().publish_raw(Message::new("raw", "")).await.unwrap();
    }
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [0, 0, 10, 10, 20]);
}

#[tokio::test(start_paused = true)]
async fn a_spawned_handler_fails_and_times_out_as_any_other() {
    let (bus, seen, ended) = (MemoryBroker::new(), Seen::new(), Seen::new());
    let (noted, done) = (seen.clone(), ended.clone());
    let handler = move |event: Event<OrderCreated>, Attempt(attempt): Attempt| {
        let (seen, ended) = (noted.clone(), done.clone());
        async move {
            seen.add((event.data.order_id, attempt));
            match event.data.order_id {
                1 => panic!("no such account"),
                2 => tokio::time::sleep(Duration::from_secs(3_600)).await,
                _ => tokio::task::yield_now().await,
            }
            ended.add(event.data.order_id);
        }
    };
    let route = Route::event("orders.created", handler).spawned();
    let policy = exact().max_attempts(2).timeout(millis(500));
    let router = Router::new("billing").topic(TOPIC).route(route).failure_policy(policy);
    let _running = bus.messaging().run_one(router).await.unwrap();
    for id in 1..=3 {
        bus.publish(&order(id, 0)).await.unwrap();
    }
    bus.settled().await.unwrap();
    let mut errors: Vec<_> = bus.dead_letters("billing").into_iter().map(|dead| dead.letter.error).collect();
    errors.sort();
    assert_eq!(errors, ["handler panicked: no such account", "handler timed out after 500 ms"]);
    tokio::time::sleep(Duration::from_secs(7_200)).await;
    assert_eq!((seen.count(), ended.all()), (5, vec![3]), "what timed out was aborted");
}

/// A spawned handler that blocks its thread does not hold up the others of its group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spawned_handler_that_blocks_holds_up_nobody() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let (blocked, noted) = (Arc::new(Mutex::new(blocked)), seen.clone());
    let blocks = move || {
        let blocked = blocked.clone();
        async move {
            let _ = blocked.lock().recv_timeout(Duration::from_secs(20));
        }
    };
    let quick = move || {
        noted.add(());
        async {}
    };
    let router = Router::new("g").route(Route::message("slow", blocks).spawned()).on_message("quick", quick);
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.messaging().publish_raw(Message::new("slow", "")).await.unwrap();
    for _ in 0..100 {
        bus.messaging().publish_raw(Message::new("quick", "")).await.unwrap();
    }
    let all = tokio::time::timeout(Duration::from_secs(10), async {
        while seen.count() < 100 {
            tokio::task::yield_now().await;
        }
    });
    all.await.unwrap();
    release.send(()).unwrap();
    bus.settled().await.unwrap();
}

/// A spawned handler that blocks its thread cannot be dropped: its lane waits until it returns.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_spawned_handler_that_blocks_past_its_timeout_keeps_its_lane() {
    let (bus, overlaps, attempts) = (MemoryBroker::new(), Seen::new(), Seen::new());
    let (begins, begun) = std::sync::mpsc::channel::<u32>();
    let (begun, overlapped, tried) = (Arc::new(Mutex::new(begun)), overlaps.clone(), attempts.clone());
    let handler = move |Attempt(attempt): Attempt| {
        let (begins, begun, overlaps, attempts) = (begins.clone(), begun.clone(), overlapped.clone(), tried.clone());
        async move {
            attempts.add(attempt);
            if attempt == 1 {
                // Blocks well past the timeout, and would see another attempt begin.
                if let Ok(other) = begun.lock().recv_timeout(millis(500)) {
                    overlaps.add(other);
                }
                tokio::task::yield_now().await;
            } else {
                let _ = begins.send(attempt);
            }
        }
    };
    let policy = exact().timeout(millis(50)).backoff(Duration::ZERO, Duration::ZERO);
    let router = Router::new("g").route(Route::message("raw", handler).spawned()).failure_policy(policy);
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.messaging().publish_raw(Message::new("raw", "").with_key("k")).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!((overlaps.all(), attempts.all()), (vec![], vec![1, 2]));
}
