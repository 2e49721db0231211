//! Dead letters on the wire: the original message byte for byte, and what happened in headers of their own.

use crate::{
    delivery::Position,
    envelope::EventId,
    error::{Error, ErrorKind},
    headers::Headers,
    message::Message,
    name::Name,
    timestamp::Timestamp,
};

const TOPIC: &str = "dead-letter-topic";
const PARTITION: &str = "dead-letter-partition";
const POSITION: &str = "dead-letter-position";
const EPOCH: &str = "dead-letter-epoch";
const GROUP: &str = "dead-letter-group";
const HANDLER: &str = "dead-letter-handler";
const ATTEMPTS: &str = "dead-letter-attempts";
const FIRST_FAILED: &str = "dead-letter-first-failed-at";
const LAST_FAILED: &str = "dead-letter-last-failed-at";
const ERROR: &str = "dead-letter-error";
const SHAPE: &str = "dead-letter-shape";
const REPLAY: &str = "dead-letter-replay";

/// Error texts are cut to this many bytes, so that a letter stays within the limit that its message met.
const MAX_ERROR: usize = 2_048;

/// The group by which dead letters are resolved: what it has settled of a dead-letter topic is done with, by a replay or
/// because somebody decided against one. A dead-letter topic belongs to one group, so that one name serves all.
pub const OPERATORS: &str = "operators";

/// The topic of a group's dead letters from a topic: `<topic>.<group>.dlq`.
#[must_use]
pub fn dead_letter_topic(topic: &str, group: &str) -> Name {
    Name::from(format!("{topic}.{group}.dlq"))
}

/// The topic by which dead letters of a group from a topic are handled once more, by that group alone:
/// `<topic>.<group>.replay`. Every group is subscribed to it, without order relative to the topic itself.
#[must_use]
pub fn replay_topic(topic: &str, group: &str) -> Name {
    Name::from(format!("{topic}.{group}.replay"))
}

/// The dead letter that a message replays, as `partition/position` of the dead-letter topic; `None` if it is no replay.
#[must_use]
pub fn replayed_letter(message: &Message) -> Option<&str> {
    message.headers.get_str(REPLAY)
}

/// The message as a replay of a letter that is kept somewhere else, for all groups of its own topic: one that recorded it
/// as dead handles it once more, one that has handled it does not.
#[must_use]
pub fn mark_replay(mut message: Message, letter: &str) -> Message {
    message.headers = DeadLetter::original_headers(&message).with(REPLAY, letter);
    message
}

/// What happened to a dead-lettered message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The topic it came from.
    pub topic: Name,
    /// The partition it came from.
    pub partition: u32,
    /// Where it stood there.
    pub position: Position,
    /// The epoch of the owner that gave it up.
    pub epoch: u64,
    /// The group that gave it up; a dead letter belongs to one group.
    pub group: Name,
    /// The handler: an event name, or a topic.
    pub handler: Name,
    /// How many attempts were made.
    pub attempts: u32,
    /// When it failed first.
    pub first_failed_at: Timestamp,
    /// When it failed last.
    pub last_failed_at: Timestamp,
    /// The last error and its causes, cut to 2,048 bytes.
    pub error: String,
    /// How much of the message is there.
    pub shape: Shape,
}

/// What is the same in repeats of one dead letter: an owner that had lost its partition may have written one as well as
/// the owner after it, and a replay whose resolution failed may have died again.
///
/// Of an event that is its source and id, with the same bytes; of a message without an envelope, where it stood and under
/// which owner, since nothing else tells it from an equal one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeadLetterId {
    topic: Name,
    group: Name,
    what: What,
    key: Option<bytes::Bytes>,
    payload: bytes::Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    Event { source: Name, id: EventId },
    Place { partition: u32, position: Position, epoch: u64 },
}

/// How much of its message a dead letter holds. Less than everything only where the broker refused more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Shape {
    /// Everything.
    #[default]
    Full,
    /// Everything but the error's text.
    WithoutError,
    /// Neither the error's text nor headers that are no attributes.
    WithoutHeaders,
    /// Only where the message stood.
    Pointer,
}

impl Shape {
    /// From the fullest to the smallest.
    pub(crate) const ALL: [Self; 4] = [Self::Full, Self::WithoutError, Self::WithoutHeaders, Self::Pointer];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::WithoutError => "without-error",
            Self::WithoutHeaders => "without-headers",
            Self::Pointer => "pointer",
        }
    }
}

impl DeadLetter {
    /// The message to be published: `original` in this letter's [`shape`](Self::shape), with the letter in headers.
    #[must_use]
    pub fn write(&self, original: &Message) -> Message {
        let mut letter = original.clone();
        letter.topic = dead_letter_topic(&self.topic, &self.group);
        match self.shape {
            Shape::Full | Shape::WithoutError => {}
            Shape::WithoutHeaders => letter.headers = Headers::new(),
            Shape::Pointer => {
                letter.payload = bytes::Bytes::new();
                letter.attributes = Headers::new();
                letter.headers = Headers::new();
            }
        }
        let own = [
            (TOPIC, self.topic.to_string()),
            (PARTITION, self.partition.to_string()),
            (POSITION, self.position.to_string()),
            (EPOCH, self.epoch.to_string()),
            (GROUP, self.group.to_string()),
            (HANDLER, self.handler.to_string()),
            (ATTEMPTS, self.attempts.to_string()),
            (FIRST_FAILED, self.first_failed_at.to_string()),
            (LAST_FAILED, self.last_failed_at.to_string()),
            (SHAPE, self.shape.as_str().to_owned()),
        ];
        let error = (self.shape == Shape::Full).then(|| (ERROR, cut(&self.error).to_owned()));
        letter.headers = letter
            .headers
            .iter()
            .filter(|(name, _)| !name.starts_with("dead-letter-"))
            .map(|(name, value)| (name, value.to_vec()))
            .chain(own.iter().map(|(name, value)| (*name, value.clone().into_bytes())))
            .chain(error.iter().map(|(name, value)| (*name, value.clone().into_bytes())))
            .collect();
        letter
    }

    /// Reads the letter from a message of a dead-letter topic.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`], naming the header that is missing or does not parse.
    pub fn read(message: &Message) -> Result<Self, Error> {
        let text = |name: &'static str| message.headers.get_str(name).ok_or_else(|| missing(name));
        let number = |name: &'static str| text(name)?.parse::<u64>().map_err(|_| missing(name));
        let small = |name: &'static str| u32::try_from(number(name)?).map_err(|_| missing(name));
        let time = |name: &'static str| Timestamp::parse(text(name)?).map_err(|_| missing(name));
        let shape = text(SHAPE)?;
        Ok(Self {
            topic: Name::new(text(TOPIC)?),
            partition: small(PARTITION)?,
            position: text(POSITION)?.parse().map_err(|_| missing(POSITION))?,
            epoch: number(EPOCH)?,
            group: Name::new(text(GROUP)?),
            handler: Name::new(text(HANDLER)?),
            attempts: small(ATTEMPTS)?,
            first_failed_at: time(FIRST_FAILED)?,
            last_failed_at: time(LAST_FAILED)?,
            error: message.headers.get_str(ERROR).unwrap_or_default().to_owned(),
            shape: Shape::ALL.into_iter().find(|known| known.as_str() == shape).ok_or_else(|| missing(SHAPE))?,
        })
    }

    /// What this letter, read from `message`, shares with its repeats.
    #[must_use]
    pub fn id(&self, message: &Message) -> DeadLetterId {
        let what = match &message.envelope {
            Some(envelope) => What::Event { source: envelope.source.clone(), id: envelope.id.clone() },
            None => What::Place { partition: self.partition, position: self.position, epoch: self.epoch },
        };
        DeadLetterId {
            topic: self.topic.clone(),
            group: self.group.clone(),
            what,
            key: message.key.clone(),
            payload: message.payload.clone(),
        }
    }

    /// The message to be published so that the group handles a dead letter once more. `letter` is the message of the
    /// dead-letter topic, `partition` and `position` are where it stands there.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if it is no dead letter, or a pointer that does not hold its message.
    pub fn replay(letter: &Message, partition: u32, position: Position) -> Result<Message, Error> {
        let told = Self::read(letter)?;
        if told.shape == Shape::Pointer {
            let what = format!("the dead letter at {position} is a pointer: its message is in {:?}", told.topic);
            return Err(Error::new(ErrorKind::Malformed, what));
        }
        let mut message = letter.clone();
        message.topic = replay_topic(&told.topic, &told.group);
        message.headers = Self::original_headers(letter).with(REPLAY, format!("{partition}/{position}"));
        Ok(message)
    }

    /// The headers that the original message had.
    #[must_use]
    pub fn original_headers(message: &Message) -> Headers {
        message.headers.iter().filter(|(name, _)| !name.starts_with("dead-letter-")).collect()
    }
}

fn missing(header: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("not a dead letter: header {header:?} is missing or does not parse"))
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_ERROR)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Envelope;

    fn letter(shape: Shape) -> DeadLetter {
        DeadLetter {
            topic: "orders".into(),
            partition: 3,
            position: Position { major: 17, minor: 2 },
            epoch: 9,
            group: "billing".into(),
            handler: "orders.created".into(),
            attempts: 5,
            first_failed_at: Timestamp::from_unix_micros(1),
            last_failed_at: Timestamp::from_unix_micros(2_000_000),
            error: "no such account".into(),
            shape,
        }
    }

    #[test]
    fn reads_back_what_was_written_and_keeps_the_message() {
        let original = Message::new("orders", &b"\xff\x00"[..]).with_key(&b"k"[..]).with_header("tenant", "a");
        let written = letter(Shape::Full).write(&original);
        assert_eq!(written.topic, "orders.billing.dlq");
        assert_eq!((&written.payload, &written.key), (&original.payload, &original.key));
        assert_eq!(DeadLetter::original_headers(&written), original.headers);
        assert_eq!(DeadLetter::read(&written).unwrap(), letter(Shape::Full));
        // A letter of a letter tells its own story, not both.
        let again = letter(Shape::Full).write(&written);
        assert_eq!(again.headers.iter().filter(|(name, _)| *name == TOPIC).count(), 1);
    }

    #[test]
    fn a_replay_is_the_original_for_one_group() {
        let original = Message::new("orders", &b"x"[..]).with_key(&b"k"[..]).with_header("tenant", "a");
        let replay = DeadLetter::replay(&letter(Shape::Full).write(&original), 0, Position::new(4)).unwrap();
        assert_eq!((replay.topic.as_str(), &replay.payload), ("orders.billing.replay", &original.payload));
        assert_eq!((replayed_letter(&replay), replayed_letter(&original)), (Some("0/4"), None));
        assert_eq!(replay.headers.get_str("tenant"), Some("a"));
        let pointer = letter(Shape::Pointer).write(&original);
        assert_eq!(DeadLetter::replay(&pointer, 0, Position::new(4)).unwrap_err().kind(), ErrorKind::Malformed);
    }

    #[test]
    fn repeats_of_a_letter_are_known_by_event_or_by_place_and_owner() {
        let later = DeadLetter { epoch: 10, attempts: 1, ..letter(Shape::Full) };
        let id = |letter: &DeadLetter, original: &Message| letter.id(&letter.write(original));
        let raw = Message::new("orders", &b"x"[..]);
        assert_eq!(id(&letter(Shape::Full), &raw), id(&letter(Shape::Full), &raw));
        assert_ne!(id(&letter(Shape::Full), &raw), id(&later, &raw), "under another owner it may be another message");
        let envelope =
            Envelope { id: EventId::generate(), source: "shop".into(), name: "orders.created".into(), time: None };
        let event = raw.clone().with_envelope(envelope.clone());
        assert_eq!(id(&letter(Shape::Full), &event), id(&later, &event));
        let other = raw.clone().with_envelope(Envelope { id: EventId::generate(), ..envelope.clone() });
        assert_ne!(id(&later, &event), id(&later, &other));
        let changed = Message::new("orders", &b"y"[..]).with_envelope(envelope);
        assert_ne!(id(&later, &event), id(&later, &changed), "an id used twice hides no message");
    }

    #[test]
    fn smaller_shapes_leave_out_more_and_more() {
        let original = Message::new("orders", &b"payload"[..]).with_header("tenant", "a");
        let weights = Shape::ALL.map(|shape| letter(shape).write(&original).weight());
        assert!(weights[0] > weights[1] && weights[1] > weights[2] && weights[2] > weights[3], "{weights:?}");
        assert!(letter(Shape::Pointer).write(&original).payload.is_empty());
    }

    #[test]
    fn long_errors_are_cut_between_characters() {
        let long = DeadLetter { error: "ü".repeat(3000), ..letter(Shape::Full) };
        let read = DeadLetter::read(&long.write(&Message::new("orders", ""))).unwrap();
        assert_eq!(read.error, "ü".repeat(1024));
    }
}
