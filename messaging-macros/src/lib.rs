//! Attribute and derive macros of the `messaging` crate, which re-exports them: use them from there.
//!
//! Each is thin: it reads what the user wrote and writes calls of `messaging`'s public builders. What is wrong is said
//! where it stands; a function stays in place beside the error, so that nothing else seems to be missing.
#![warn(missing_docs)]

mod arguments;
mod consumer;
mod event;
mod event_data;
mod message_handler;
mod signature;

use arguments::Arguments;
use proc_macro::TokenStream;
use proc_macro2::Span;
use quote::{ToTokens, quote};
use syn::{DeriveInput, ItemFn, ItemImpl, parse_macro_input};

/// Says what kind of event a type is: its name, its topic, and the field that is its key.
///
/// ```
/// use messaging::{Event, EventData};
///
/// #[derive(EventData, serde::Serialize, serde::Deserialize)]
/// #[event(name = "orders.created", topic = "order-events", key = order_id)]
/// struct OrderCreated {
///     order_id: i64,
///     user_email: String,
/// }
///
/// let event = Event::new(OrderCreated { order_id: 7, user_email: "user@example.com".into() });
/// assert_eq!((event.name(), event.topic()), ("orders.created", "order-events"));
/// assert_eq!(event.key(), Some(&b"7"[..]));
/// ```
///
/// - `name` and `topic`: a literal, which is checked against the rule for names (1 to 200 of `A-Z a-z 0-9 . _ -`), or a
///   `&'static str` constant.
/// - `key`: a field, or the path to one in a field (`key = order.id`, `key = 0` in a tuple struct), of a type that
///   implements `EventKey`. Events of one key are handled one after another, in the order they were published. Without
///   `key`, or where the field is an `Option` and `None`, the event is in no order.
///
/// The type must be `Serialize`, to be published; to be handled, `Deserialize`.
#[proc_macro_derive(EventData, attributes(event))]
pub fn event_data(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let event = event_data::EventData::parse(input);
    event.map_or_else(syn::Error::into_compile_error, event_data::EventData::expand).into()
}

/// Publishes what an async function returns, if it succeeds.
///
/// ```
/// use messaging::{HasMessaging, Messaging, Result, event};
///
/// #[derive(serde::Serialize)]
/// struct OrderCompleted {
///     order_id: i64,
/// }
///
/// struct Orders {
///     messaging: Messaging,
/// }
///
/// impl HasMessaging for Orders {
///     fn messaging(&self) -> &Messaging {
///         &self.messaging
///     }
/// }
///
/// impl Orders {
///     #[event("orders.completed", topic = "order-events", key_field = "order_id")]
///     async fn complete(&self, order_id: i64) -> Result<OrderCompleted> {
///         // An error here, or a panic, and nothing is published.
///         Ok(OrderCompleted { order_id })
///     }
/// }
/// ```
///
/// The function returns what its body does: `Result<E>`, where `E` is published, or `Result<(R, E)>`, where `R` is not.
/// `E` is any type that is `Serialize`; it need not implement `EventData`. If it cannot be published, the function
/// answers that error: its own error type needs `From<messaging::Error>`.
///
/// It publishes with, in this order:
///
/// 1. what `publisher = …` in the attribute says: an expression of the function's arguments, evaluated after its body,
///    such as `publisher = &shop.messaging`;
/// 2. its first argument whose type is called `Messaging` or `Tx`: `&Messaging` publishes and waits for the confirm, a
///    transaction (`&mut Tx`) records the event and publishes it after its commit;
/// 3. its `self`, by the trait `HasMessaging`.
///
/// `key_field` names a field of `E`, or the path to one (`"order.id"`), of a type that implements `EventKey`. Without it
/// the event has no key, and is in no order.
///
/// ```
/// # use messaging::{Messaging, Result, event};
/// # #[derive(serde::Serialize)]
/// # struct OrderCreated { order_id: i64 }
/// # struct Order { id: i64 }
/// #[event("orders.created", topic = "order-events", key_field = "order_id")]
/// async fn create(messaging: &Messaging, id: i64) -> Result<(Order, OrderCreated)> {
///     let order = Order { id };
///     let created = OrderCreated { order_id: order.id };
///     Ok((order, created))
/// }
/// ```
#[proc_macro_attribute]
pub fn event(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as Arguments);
    let function = parse_macro_input!(item as ItemFn);
    match event::Event::parse(arguments, &function) {
        Ok(event) => event.expand(&function).into(),
        Err(error) => beside(&function, Err(error)),
    }
}

/// Makes a class of handlers of an `impl` block: a group, its topics, and methods for their events.
///
/// ```
/// use messaging::{Event, IntoRouter, Json, Result, consumer};
/// # #[derive(serde::Deserialize)]
/// # struct OrderCreated { order_id: i64, user_email: String }
///
/// struct OrderNotifications;
///
/// #[consumer("notifications-service", topics = ["order-events"], concurrency = 50)]
/// impl OrderNotifications {
///     #[on_event("orders.created")]
///     async fn on_order_created(&self, event: Event<OrderCreated>) -> Result<()> {
///         self.notify(&event.data.user_email, event.data.order_id).await
///     }
///
///     #[on_message(topic = "orders.imported")]
///     async fn on_import(&self, order: Json<OrderCreated>) -> Result<()> {
///         self.notify(&order.user_email, order.order_id).await
///     }
///
///     /// Methods without an attribute are methods.
///     async fn notify(&self, to: &str, order_id: i64) -> Result<()> {
///         println!("to {to}: order #{order_id}");
///         Ok(())
///     }
/// }
///
/// let router = OrderNotifications.into_router();
/// assert_eq!(router.subscription().topics, ["order-events", "orders.imported"]);
/// ```
///
/// The type implements `IntoRouter`, so that `messaging.run_one(OrderNotifications)` runs it. It also has the methods
/// `router(self)` and `shared_router(self: Arc<Self>)`; a `Router` has all the options there are. Several consumers
/// and handlers, also of one group, run in one application: `messaging.run([a.router(), b.router()])`.
///
/// In the attribute: the group, `topics`, and as options of the router `concurrency`, `failure_policy`, `on_unhandled`,
/// `start`, `max_in_flight`, `max_in_flight_bytes`, `max_span`, `revoke_drain`, each an expression.
///
/// # Handlers
///
/// - `#[on_event("name")]`: events of this name, on every topic of the group.
/// - `#[on_message(topic = "topic")]`: what no `#[on_event]` gets on this topic, to which the group then subscribes.
///
/// Both take `failure_policy = …`, which overrides the group's, and `spawned`, which runs the handler as a task of its
/// own. A handler is an `async fn` that takes `&self`, then up to seven arguments that implement `FromDelivery`, and may
/// end with `&mut R` of a resource, such as a transaction. In a unit test it is a method like any other.
///
/// # State
///
/// The router's state is the value itself. What handlers need, they find on `self`; what a resource needs, it gets by
/// `FromRef`:
///
/// ```
/// # use messaging::{Begun, Ending, Event, Finished, FromRef, Resource, ResourceContext, Result, consumer};
/// # #[derive(Clone)]
/// # struct Outbox;
/// # struct Tx;
/// # impl<S: Sync> Resource<S> for Tx where Outbox: FromRef<S> {
/// #     async fn begin(context: ResourceContext<'_, S>) -> Result<Begun<Self>> {
/// #         let _ = Outbox::from_ref(context.state);
/// #         Ok(Begun::Run(Tx))
/// #     }
/// #     async fn finish(self, _: Ending) -> Finished { Finished::Committed }
/// # }
/// # #[derive(serde::Deserialize)]
/// # struct OrderCreated { order_id: i64 }
/// struct OrderNotifications {
///     outbox: Outbox,
/// }
///
/// // Where a `Tx` finds what it begins on.
/// impl FromRef<OrderNotifications> for Outbox {
///     fn from_ref(state: &OrderNotifications) -> Self {
///         state.outbox.clone()
///     }
/// }
///
/// #[consumer("notifications-service", topics = ["order-events"])]
/// impl OrderNotifications {
///     #[on_event("orders.created")]
///     async fn on_order_created(&self, event: Event<OrderCreated>, tx: &mut Tx) -> Result<()> {
///         # let _ = (event, tx);
///         Ok(())
///     }
/// }
/// ```
#[proc_macro_attribute]
pub fn consumer(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as Arguments);
    let mut block = parse_macro_input!(item as ItemImpl);
    let consumer = consumer::Consumer::parse(arguments, &mut block);
    beside(&block, consumer.map(|consumer| consumer.expand(&block)))
}

/// Handles the events of a name: on a method in a block with `#[consumer]`, where it needs no import.
///
/// ```compile_fail
/// #[messaging::on_event("orders.created")]
/// async fn on_order_created() {}
/// ```
#[proc_macro_attribute]
pub fn on_event(_: TokenStream, item: TokenStream) -> TokenStream {
    outside("on_event", item)
}

/// Handles the other messages of a topic: on a method in a block with `#[consumer]`, where it needs no import.
///
/// ```compile_fail
/// #[messaging::on_message(topic = "orders")]
/// async fn on_order() {}
/// ```
#[proc_macro_attribute]
pub fn on_message(_: TokenStream, item: TokenStream) -> TokenStream {
    outside("on_message", item)
}

/// Makes a function a handler that is registered by its name: it gets what no event handler of its topic gets, such as
/// raw messages without an envelope.
///
/// ```
/// use messaging::{Json, Result, Router, message_handler};
/// use serde_json::{Value, json};
///
/// #[message_handler(topic = "orders.created")]
/// async fn on_order_created(message: Json<Value>) -> Result<()> {
///     println!("Your order #{} received.", message["order_id"]);
///     Ok(())
/// }
///
/// // In the application: a router of its own, of this group …
/// let router: Router = on_order_created::router("notifications-service");
/// assert_eq!(router.subscription().topics, ["orders.created"]);
///
/// // … or one route of a router that has others.
/// let router: Router = Router::new("audit").route(on_order_created::route());
/// # drop(router);
///
/// // In a unit test: a function.
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// assert!(on_order_created(Json(json!({ "order_id": 7 }))).await.is_ok());
/// # }
/// ```
///
/// The attribute takes `topic`, and optionally `group`, with which `router()` takes none; `failure_policy = …`;
/// `spawned`, which runs the handler as a task of its own; and `state`.
///
/// The state of the router is that of the handler's one `State<S>`, or what `state = S` says. Without either, it is any
/// from which its resource and its arguments can be taken; `with_state` supplies it:
///
/// ```
/// # use messaging::{Json, Result, Router, State, message_handler};
/// #[derive(Clone)]
/// struct Mailer;
///
/// #[message_handler(topic = "orders.created", group = "notifications-service")]
/// async fn on_order_created(order_id: Json<i64>, mailer: State<Mailer>) -> Result<()> {
///     # let _ = (order_id, mailer);
///     Ok(())
/// }
///
/// let router: Router = on_order_created::router().with_state(Mailer);
/// # drop(router);
/// ```
#[proc_macro_attribute]
pub fn message_handler(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as Arguments);
    let function = parse_macro_input!(item as ItemFn);
    let handler = message_handler::MessageHandler::parse(arguments, &function);
    beside(&function, handler.map(message_handler::MessageHandler::expand))
}

/// Says what keeps a function from being a handler, where it stands: at the argument, at what is returned, or at what
/// is held across an `await` and cannot be sent between threads.
///
/// ```
/// use messaging::{Event, Result, State, debug_handler};
/// # #[derive(Clone)]
/// # struct Mailer;
///
/// #[debug_handler]
/// async fn on_order_created(event: Event<i64>, mailer: State<Mailer>) -> Result<()> {
///     # let _ = (event, mailer);
///     Ok(())
/// }
/// ```
///
/// It changes nothing else and can stay. The state is that of the one `State<S>`, or what `state = S` in the attribute
/// says.
#[proc_macro_attribute]
pub fn debug_handler(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as Arguments);
    let function = parse_macro_input!(item as ItemFn);
    beside(&function, message_handler::debug(arguments, &function))
}

/// Inside of a consumer these attributes are taken off before the compiler comes to them.
fn outside(name: &str, item: TokenStream) -> TokenStream {
    let message = format!("`#[{name}]` stands on a method in an `impl` block with `#[messaging::consumer(…)]`");
    let error = syn::Error::new(Span::call_site(), message);
    beside(&proc_macro2::TokenStream::from(item), Err(error))
}

/// The item with what belongs to it, or with the error.
fn beside(item: &impl ToTokens, others: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    let others = others.unwrap_or_else(syn::Error::into_compile_error);
    quote!(#item #others).into()
}
