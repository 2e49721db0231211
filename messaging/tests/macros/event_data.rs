use bytes::BytesMut;
use messaging::{Event, EventData, EventKey};
use serde::Serialize;

#[derive(EventData, Serialize)]
#[event(name = "orders.created", topic = "order-events", key = order_id)]
struct OrderCreated {
    order_id: i64,
}

#[derive(Serialize)]
struct Customer {
    id: String,
}

#[derive(EventData, Serialize)]
#[event(name = "customers.moved", topic = "customers", key = customer.id)]
struct CustomerMoved {
    customer: Customer,
}

#[derive(EventData, Serialize)]
#[event(name = "carts.cleared", topic = "carts", key = 0)]
struct CartCleared(CartId);

/// A key of the application's own.
#[derive(Serialize)]
struct CartId(u64);

impl EventKey for CartId {
    fn write_key(&self, out: &mut BytesMut) -> bool {
        format!("cart-{:04}", self.0).write_key(out)
    }
}

#[derive(EventData, Serialize)]
#[event(name = "pages.seen", topic = "pages", key = user)]
struct PageSeen {
    user: Option<u32>,
}

#[derive(EventData, Serialize)]
#[event(name = "orders.changed", topic = "order-events")]
enum OrderChanged {
    Paid,
}

const RENAMED: &str = "orders.renamed";

#[derive(EventData, Serialize)]
#[event(name = RENAMED, topic = OrderCreated::TOPIC, key = by)]
struct Renamed<'a, T> {
    by: &'a str,
    to: T,
}

#[test]
fn name_and_topic_are_those_of_the_attribute() {
    assert_eq!((OrderCreated::NAME, OrderCreated::TOPIC), ("orders.created", "order-events"));
    assert_eq!((Renamed::<i32>::NAME, Renamed::<i32>::TOPIC), ("orders.renamed", "order-events"));
}

#[test]
fn a_field_is_the_key() {
    assert_eq!(Event::new(OrderCreated { order_id: -7 }).key(), Some(&b"-7"[..]));
    assert_eq!(Event::new(Renamed { by: "ann", to: 1 }).key(), Some(&b"ann"[..]));
}

#[test]
fn a_field_of_a_field_is_the_key() {
    let moved = CustomerMoved { customer: Customer { id: "c-1".into() } };
    assert_eq!(Event::new(moved).key(), Some(&b"c-1"[..]));
}

#[test]
fn an_index_is_the_key() {
    assert_eq!(Event::new(CartCleared(CartId(17))).key(), Some(&b"cart-0017"[..]));
}

#[test]
fn what_has_no_key_is_in_no_order() {
    assert_eq!(Event::new(OrderChanged::Paid).key(), None);
    assert_eq!(Event::new(PageSeen { user: None }).key(), None);
    assert_eq!(Event::new(PageSeen { user: Some(7) }).key(), Some(&b"7"[..]));
}
