//! [`parts`]: what is written of a message, part by part.

use messaging::{Message, cloudevents};

/// The header that holds the key.
pub(super) const KEY: &str = "messaging-key";
/// The header that stands for the property `message_id` of a message without an envelope.
pub(super) const MESSAGE_ID: &str = Message::MESSAGE_ID;
/// What a header's name begins with that would be taken for another otherwise.
pub(super) const ESCAPE: &str = "header:";
/// The most bytes that a short string of AMQP holds, which properties and names are.
pub(super) const SHORT: usize = 255;
/// The attribute that is the property `message_id` as well.
const ID: &str = "ce_id";

/// What is written of a message.
pub(super) enum Part<'a> {
    Header(&'a str, &'a [u8]),
    /// The property `content_type`, where it fits into it.
    ContentType(&'a str),
    /// The property `message_id`, where it fits into it.
    MessageId(&'a str),
}

/// Calls `each` with everything that is written of a message beside its key and the name of its event, which are the same
/// in the same place in messages of one form.
pub(super) fn parts(message: &Message, mut each: impl FnMut(Part<'_>)) {
    let of_event = message.envelope.is_some();
    // Of several, none is the one.
    let has_id = !of_event && message.headers.iter().filter(|(name, _)| *name == MESSAGE_ID).count() == 1;
    let mut is_first = true;
    cloudevents::write_binary(message, |name, value| {
        match name {
            ID if of_event && std::mem::take(&mut is_first) => {
                if let Some(id) = fitting(value) {
                    each(Part::MessageId(id));
                }
            }
            MESSAGE_ID if has_id => {
                if let Some(id) = fitting(value) {
                    return each(Part::MessageId(id));
                }
            }
            cloudevents::CONTENT_TYPE => {
                if let Some(text) = fitting(value) {
                    return each(Part::ContentType(text));
                }
            }
            _ => {}
        }
        each(Part::Header(name, value));
    });
}

/// A value as a text that a property can hold.
fn fitting(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|text| text.len() <= SHORT)
}
