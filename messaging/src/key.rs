//! [`EventKey`]: what can be the key of an event, and how it becomes bytes.

use bytes::{BufMut, BytesMut};

/// A value that can be an event's key: text as it is, numbers in decimal, UUIDs hyphenated.
///
/// The bytes decide the partition, on every broker and for every language that publishes the same key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of an event",
    label = "not a key",
    note = "keys are text, integers, UUIDs, `Option` of one of these, or a type of yours that implements `EventKey`"
)]
pub trait EventKey {
    /// Appends the key's bytes and answers `true`, or answers `false` if there is no key.
    fn write_key(&self, out: &mut BytesMut) -> bool;
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl EventKey for $integer {
            fn write_key(&self, out: &mut BytesMut) -> bool {
                out.put_slice(itoa::Buffer::new().format(*self).as_bytes());
                true
            }
        }
    )*};
}

integers!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

macro_rules! texts {
    ($($text:ty),*) => {$(
        impl EventKey for $text {
            fn write_key(&self, out: &mut BytesMut) -> bool {
                out.put_slice(self.as_bytes());
                true
            }
        }
    )*};
}

texts!(str, String, std::sync::Arc<str>, Box<str>, std::borrow::Cow<'_, str>);

impl EventKey for uuid::Uuid {
    fn write_key(&self, out: &mut BytesMut) -> bool {
        out.put_slice(self.hyphenated().encode_lower(&mut Self::encode_buffer()).as_bytes());
        true
    }
}

impl EventKey for serde_json::Value {
    /// A string as its text, anything else as its JSON.
    fn write_key(&self, out: &mut BytesMut) -> bool {
        match self {
            Self::String(text) => text.write_key(out),
            other => other.to_string().write_key(out),
        }
    }
}

impl<K: EventKey + ?Sized> EventKey for &K {
    fn write_key(&self, out: &mut BytesMut) -> bool {
        (**self).write_key(out)
    }
}

impl<K: EventKey> EventKey for Option<K> {
    /// `None` is no key: the event is in no order.
    fn write_key(&self, out: &mut BytesMut) -> bool {
        self.as_ref().is_some_and(|key| key.write_key(out))
    }
}
