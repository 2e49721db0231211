//! What a message has become once it was written and read: the bus hands messages over without doing either, and a
//! foreign CloudEvent must be one here too.

use std::sync::Arc;

use messaging::{
    Message,
    cloudevents::{self, CONTENT_TYPE},
};

/// The message as a broker with a wire would hand it over.
#[inline]
pub(crate) fn as_read(message: Arc<Message>) -> Arc<Message> {
    if message.envelope.is_none() && (message.content_type.is_some() || !message.headers.is_empty()) {
        return read(message);
    }
    message
}

fn read(message: Arc<Message>) -> Arc<Message> {
    let content_type = message.content_type.as_deref();
    let structured = content_type.is_some_and(|text| text.to_ascii_lowercase().starts_with("application/cloudevents"));
    let binary = message.headers.iter().any(|(name, _)| name.ends_with("specversion"));
    if !structured && !binary {
        return message;
    }
    let content_type = content_type.map(|text| (CONTENT_TYPE, text.as_bytes()));
    let headers = message.headers.iter().chain(content_type);
    Arc::new(cloudevents::read(message.topic.clone(), message.key.clone(), message.payload.clone(), headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_event_on_a_wire_is_one_here() {
        let body = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t.happened","data":{"a":1}}"#;
        let structured = Message::new("t", body).with_content_type("application/cloudevents+json");
        let read = as_read(Arc::new(structured));
        assert_eq!((read.name(), &read.payload[..]), (Some("t.happened"), &br#"{"a":1}"#[..]));
        let mut binary = Message::new("t", "x").with_header("tenant", "a");
        for (name, value) in [("specversion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "t.happened")] {
            binary = binary.with_header(&format!("ce_{name}"), value);
        }
        let read = as_read(Arc::new(binary));
        assert_eq!((read.name(), read.headers.get_str("tenant")), (Some("t.happened"), Some("a")));
    }

    #[test]
    fn what_is_none_stays_the_same_message() {
        for message in [
            Message::new("t", "x"),
            Message::new("t", "{}").with_content_type("application/json").with_header("a", "b"),
        ] {
            let message = Arc::new(message);
            assert!(Arc::ptr_eq(&as_read(message.clone()), &message));
        }
    }
}
