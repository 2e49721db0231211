//! How a message lies in a stream: one entry, its fields those of CloudEvents' binary mode.
//!
//! There is no binding of CloudEvents to Redis, so ours is Kafka's with fields for headers: `ce_id`, `ce_source`,
//! `ce_type` and so on, `content-type`, headers by their names; and two fields more, `key` (none if the message has none)
//! and `data` with the payload. A header that is itself called `key` or `data`, or begins with `header:`, is written
//! with `header:` in front. Fields come in the same order in every entry, so that a stream keeps their names once.
//!
//! An entry of somebody else's may be anything: without `data` its payload is empty, and structured events in `data` are
//! read as such.

use std::sync::Arc;

use atoi::FromRadix10Checked;
use bytes::Bytes;
use messaging::{Message, Name, Position, cloudevents};
use redis::{Cmd, Value};

const KEY: &str = "key";
const DATA: &str = "data";
const HEADER: &str = "header:";

/// Adds a message's fields and their values to a command.
pub(crate) fn write_fields(message: &Message, cmd: &mut Cmd) {
    if let Some(key) = &message.key {
        cmd.arg(KEY).arg(&key[..]);
    }
    cloudevents::write_binary(message, |name, value| {
        if name == KEY || name == DATA || name.starts_with(HEADER) {
            cmd.arg(format!("{HEADER}{name}")).arg(value);
        } else {
            cmd.arg(name).arg(value);
        }
    });
    cmd.arg(DATA).arg(&message.payload[..]);
}

/// About how many bytes and arguments a message takes in a command.
pub(crate) fn estimate(message: &Message) -> (usize, usize) {
    (message.weight() + 256, 24)
}

/// Reads one entry, `[id, [field, value, …]]`. `None` if it is no entry, or one that is gone.
pub(crate) fn read_entry(topic: &Name, mut entry: Value, scratch: &mut Fields) -> Option<(Position, Arc<Message>)> {
    let Value::Array(entry) = &mut entry else { return None };
    let [id, Value::Array(fields), ..] = &mut entry[..] else { return None };
    Some((position(id)?, read_fields(topic, fields, scratch)))
}

/// What reading one entry leaves for the next one.
#[derive(Default)]
pub(crate) struct Fields {
    /// The names of the fields: mostly the next entry has the same.
    names: Vec<String>,
    reader: cloudevents::Reader,
}

/// Writes the message where it stays. The values are read where they lie: moving each costs more than reading it.
fn read_fields(topic: &Name, fields: &mut [Value], Fields { names, reader }: &mut Fields) -> Arc<Message> {
    let mut key = None;
    let mut payload = Bytes::new();
    let mut count = 0;
    for field in fields.chunks_exact_mut(2) {
        let [Value::BulkString(name), Value::BulkString(value)] = field else { break };
        match name.as_slice() {
            b"key" => key = Some(Bytes::from(std::mem::take(value))),
            b"data" => payload = Bytes::from(std::mem::take(value)),
            _ => {}
        }
        match names.get_mut(count) {
            Some(known) if known.as_bytes() == *name => {}
            Some(other) => *other = String::from_utf8_lossy(name).into_owned(),
            None => names.push(String::from_utf8_lossy(name).into_owned()),
        }
        count += 1;
    }
    names.truncate(count);
    let headers = names.iter().zip(fields.chunks_exact(2)).filter_map(|(name, field)| match field {
        [_, Value::BulkString(value)] if name != KEY && name != DATA => {
            Some((name.strip_prefix(HEADER).unwrap_or(name), value.as_slice()))
        }
        _ => None,
    });
    let mut shared = Arc::new(Message::new(topic.clone(), payload));
    // Nobody else has it yet.
    if let Some(message) = Arc::get_mut(&mut shared) {
        message.key = key;
        reader.read_headers(message, headers);
    }
    shared
}

/// Reads an entry's id.
pub(crate) fn position(id: &Value) -> Option<Position> {
    match id {
        Value::BulkString(bytes) => parse_position(bytes),
        Value::SimpleString(text) => parse_position(text.as_bytes()),
        _ => None,
    }
}

pub(crate) fn parse_position(id: &[u8]) -> Option<Position> {
    let (major, rest) = number(id)?;
    let (minor, rest) = number(rest.strip_prefix(b"-")?)?;
    rest.is_empty().then_some(Position { major, minor })
}

/// Reads the decimal digits that come first, and answers what follows: in one pass, as it is done for each message.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let (value, count) = u64::from_radix_10_checked(text);
    let (digits, rest) = text.split_at(count);
    if digits.is_empty() { None } else { Some((value?, rest)) }
}

/// An entry's id as Redis writes it, with both parts.
pub(crate) fn id(position: Position) -> String {
    let mut text = String::with_capacity(24);
    write_id(position, &mut text);
    text
}

/// Writes an entry's id over what is in `text`.
pub(crate) fn write_id(position: Position, text: &mut String) {
    text.clear();
    let mut buffer = itoa::Buffer::new();
    text.push_str(buffer.format(position.major));
    text.push('-');
    text.push_str(buffer.format(position.minor));
}

/// The position right after this one.
pub(crate) fn after(position: Position) -> Position {
    match position.minor.checked_add(1) {
        Some(minor) => Position { minor, ..position },
        None => Position::new(position.major.saturating_add(1)),
    }
}

/// The position right before this one; the first has none before, and stands for itself.
pub(crate) fn before(position: Position) -> Position {
    match (position.major, position.minor) {
        (major, minor @ 1..) => Position { major, minor: minor - 1 },
        (major @ 1.., 0) => Position { major: major - 1, minor: u64::MAX },
        (0, 0) => position,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messaging::{Envelope, EventId, Timestamp};

    fn entry_of(message: &Message) -> Value {
        let mut cmd = Cmd::new();
        write_fields(message, &mut cmd);
        let fields = cmd.args_iter().map(|arg| match arg {
            redis::Arg::Simple(bytes) => Value::BulkString(bytes.to_vec()),
            _ => unreachable!("fields are plain arguments"),
        });
        Value::Array(vec![Value::BulkString(b"5-1".to_vec()), Value::Array(fields.collect())])
    }

    #[test]
    fn a_message_reads_back_as_it_was() {
        let envelope = Envelope {
            id: EventId::parse("e1"),
            source: "orders".into(),
            name: "orders.created".into(),
            time: Some(Timestamp::from_unix_micros(1)),
        };
        let messages = [
            Message::new("t", &b"\xff\x00"[..]),
            Message::new("t", "").with_key(""),
            Message::new("t", "{}").with_key("k").with_envelope(envelope).with_content_type("application/json"),
            Message::new("t", "x").with_header("key", "1").with_header("data", "2").with_header("header:data", "3"),
            Message::new("t", "x").with_header("a", "1").with_header("a", [0xff]),
        ];
        for message in messages {
            let (position, read) = read_entry(&"t".into(), entry_of(&message), &mut Fields::default()).unwrap();
            assert_eq!((position, &*read), (Position { major: 5, minor: 1 }, &message));
        }
    }

    #[test]
    fn what_others_wrote_is_read_as_it_is() {
        let fields = ["a", "1", "b", "2"].map(|text| Value::BulkString(text.into()));
        let entry = Value::Array(vec![Value::BulkString(b"5-0".to_vec()), Value::Array(fields.into())]);
        let (_, message) = read_entry(&"t".into(), entry, &mut Fields::default()).unwrap();
        assert_eq!((message.payload.len(), message.headers.get_str("b")), (0, Some("2")));
        let gone = Value::Array(vec![Value::BulkString(b"5-0".to_vec()), Value::Nil]);
        assert!(read_entry(&"t".into(), gone, &mut Fields::default()).is_none());
    }

    #[test]
    fn neighbours_of_positions() {
        let last = Position { major: 7, minor: u64::MAX };
        assert_eq!((after(last), before(Position::new(8))), (Position::new(8), last));
        assert_eq!(before(Position::default()), Position::default());
        assert_eq!(parse_position(id(last).as_bytes()), Some(last));
        for wrong in ["", "1", "-", "1-", "-1", "1-x", "1:-2", "+1-2", "1-2-3", "18446744073709551616-0"] {
            assert_eq!(parse_position(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
