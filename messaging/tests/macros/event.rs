use std::{fmt, num::ParseIntError, sync::Arc};

use messaging::{Error, ErrorKind, Event, EventSink, HasMessaging, Messaging, Result, event};
use messaging_memory::MemoryBroker;
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Debug, PartialEq, Serialize)]
struct OrderCompleted {
    order_id: i64,
    status: &'static str,
}

fn completed(order_id: i64) -> OrderCompleted {
    OrderCompleted { order_id, status: "completed" }
}

/// Records what it is given, or refuses it.
#[derive(Default)]
struct Tx {
    recorded: Vec<(String, String, Option<String>, Value)>,
    refuses: bool,
}

impl EventSink for &mut Tx {
    async fn publish_event<T: Serialize + Send>(self, event: Event<T>) -> Result<(), Error> {
        if self.refuses {
            return Err(Error::new(ErrorKind::Rejected, "the transaction is over"));
        }
        let key = event.key().map(|key| String::from_utf8_lossy(key).into_owned());
        let data = serde_json::to_value(&event.data);
        let data = data.map_err(|error| Error::new(ErrorKind::Malformed, "no JSON").with_source(error))?;
        self.recorded.push((event.name().to_owned(), event.topic().to_owned(), key, data));
        Ok(())
    }
}

/// An error of the application.
#[derive(Debug, PartialEq)]
enum OrderError {
    NoNumber,
    Negative,
    NotPublished,
}

impl From<ParseIntError> for OrderError {
    fn from(_: ParseIntError) -> Self {
        Self::NoNumber
    }
}

impl From<Error> for OrderError {
    fn from(_: Error) -> Self {
        Self::NotPublished
    }
}

#[event("orders.completed", topic = "order-events", key_field = "order_id")]
async fn complete(tx: &mut Tx, id: String) -> Result<OrderCompleted, OrderError> {
    let id: i64 = id.parse()?;
    if id < 0 {
        return Err(OrderError::Negative);
    }
    if id == 0 {
        return Ok(completed(1));
    }
    // The transaction is the function's until it returns.
    tx.recorded.clear();
    Ok(completed(id))
}

#[tokio::test]
async fn what_is_returned_is_published() {
    let mut tx = Tx::default();
    assert_eq!(complete(&mut tx, "7".into()).await, Ok(completed(7)));
    let expected = ("orders.completed".into(), "order-events".into(), Some("7".into()), json!(completed(7)));
    assert_eq!(tx.recorded, [expected]);
}

#[tokio::test]
async fn an_early_return_is_published_too() {
    let mut tx = Tx::default();
    assert_eq!(complete(&mut tx, "0".into()).await, Ok(completed(1)));
    assert_eq!(tx.recorded.len(), 1);
}

#[tokio::test]
async fn an_error_publishes_nothing() {
    let mut tx = Tx::default();
    assert_eq!(complete(&mut tx, "seven".into()).await, Err(OrderError::NoNumber));
    assert_eq!(complete(&mut tx, "-7".into()).await, Err(OrderError::Negative));
    assert_eq!(tx.recorded, []);
}

#[tokio::test]
async fn a_failure_to_publish_is_the_function_s() {
    let mut tx = Tx { refuses: true, ..Tx::default() };
    assert_eq!(complete(&mut tx, "7".into()).await, Err(OrderError::NotPublished));
}

struct Order {
    id: i64,
}

struct Key {
    order: Order,
}

#[derive(Serialize)]
struct Nested {
    #[serde(skip)]
    of: Key,
}

#[event("orders.nested", topic = "order-events", key_field = "of.order.id", publisher = &mut *transactions.1)]
async fn nested(transactions: (&mut Tx, &mut Tx)) -> Result<(Order, Nested)> {
    Ok((Order { id: 1 }, Nested { of: Key { order: Order { id: 2 } } }))
}

#[tokio::test]
async fn of_a_pair_the_second_is_published() {
    let (mut first, mut second) = (Tx::default(), Tx::default());
    let (order, _) = nested((&mut first, &mut second)).await.unwrap();
    assert_eq!((order.id, first.recorded.len()), (1, 0));
    assert_eq!(second.recorded[0].2.as_deref(), Some("2"));
}

struct Orders {
    messaging: Messaging,
}

impl HasMessaging for Orders {
    fn messaging(&self) -> &Messaging {
        &self.messaging
    }
}

impl Orders {
    #[event("orders.completed", topic = "order-events")]
    async fn by_self(&self, id: i64) -> Result<OrderCompleted> {
        Ok(completed(id))
    }

    #[event("orders.completed", topic = "order-events", key_field = "order_id")]
    async fn by_shared_self(self: Arc<Self>, id: i64) -> Result<OrderCompleted> {
        Ok(completed(id))
    }

    #[event("orders.completed", topic = "order-events", key_field = "order_id")]
    async fn by_argument(messaging: Messaging, id: impl Into<i64> + fmt::Debug) -> Result<OrderCompleted> {
        Ok(completed(id.into()))
    }
}

#[tokio::test]
async fn methods_publish_with_what_they_have() {
    let bus = MemoryBroker::new();
    let orders = Arc::new(Orders { messaging: bus.messaging() });
    orders.by_self(1).await.unwrap();
    orders.clone().by_shared_self(2).await.unwrap();
    // On other threads too.
    tokio::spawn(Orders::by_argument(bus.messaging(), 3)).await.unwrap().unwrap();

    let messages = bus.messages("order-events");
    let published: Vec<(&[u8], Option<&[u8]>)> =
        messages.iter().map(|message| (&message.payload[..], message.key.as_deref())).collect();
    let data = [1, 2, 3].map(|id| serde_json::to_vec(&completed(id)).unwrap());
    assert_eq!(published, [(&data[0][..], None), (&data[1], Some(&b"2"[..])), (&data[2], Some(b"3"))]);
}
