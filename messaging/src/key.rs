//! [`EventKey`]: what can be the key of an event, and how it becomes bytes.

use bytes::{BufMut, BytesMut};

/// A value that can be an event's key: text as it is, numbers in decimal, UUIDs hyphenated.
///
/// The bytes decide the partition, on every broker and for every language that publishes the same key.
pub trait EventKey {
    /// Appends the key's bytes.
    fn write_key(&self, out: &mut BytesMut);
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl EventKey for $integer {
            fn write_key(&self, out: &mut BytesMut) {
                out.put_slice(itoa::Buffer::new().format(*self).as_bytes());
            }
        }
    )*};
}

integers!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

macro_rules! texts {
    ($($text:ty),*) => {$(
        impl EventKey for $text {
            fn write_key(&self, out: &mut BytesMut) {
                out.put_slice(self.as_bytes());
            }
        }
    )*};
}

texts!(str, String, std::sync::Arc<str>, Box<str>, std::borrow::Cow<'_, str>);

impl EventKey for uuid::Uuid {
    fn write_key(&self, out: &mut BytesMut) {
        out.put_slice(self.hyphenated().encode_lower(&mut Self::encode_buffer()).as_bytes());
    }
}

impl EventKey for serde_json::Value {
    /// A string as its text, anything else as its JSON.
    fn write_key(&self, out: &mut BytesMut) {
        match self {
            Self::String(text) => text.write_key(out),
            other => out.put_slice(other.to_string().as_bytes()),
        }
    }
}

impl<K: EventKey + ?Sized> EventKey for &K {
    fn write_key(&self, out: &mut BytesMut) {
        (**self).write_key(out);
    }
}
