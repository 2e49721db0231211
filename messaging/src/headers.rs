//! [`Headers`]: names and byte values in one packed buffer, so that copying a message's headers is one increment.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// An ordered list of header names and binary values. A name may stand more than once, as in Kafka; [`get`](Self::get)
/// answers the last.
///
/// Immutable and cheap to clone; [`with`](Self::with) makes a longer one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    // Each entry: name length (u16), value length (u32), name, value. `None` where there is none: most messages have no
    // headers, and `None` costs less to make and drop than empty bytes.
    packed: Option<Bytes>,
}

const PREFIX: usize = 6;

impl Headers {
    /// No headers; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { packed: None }
    }

    /// These headers and one more.
    #[must_use]
    pub fn with(&self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        let mut packed = BytesMut::with_capacity(self.weight() + PREFIX + name.len() + value.len());
        packed.put_slice(self.bytes());
        push(&mut packed, name, value);
        Self { packed: Some(packed.freeze()) }
    }

    /// The value of the last header of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().filter(|(candidate, _)| *candidate == name).last().map(|(_, value)| value)
    }

    /// The value of the last header of this name, if it is UTF-8.
    #[must_use]
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every header in its order.
    #[must_use]
    pub fn iter(&self) -> HeaderIter<'_> {
        HeaderIter { rest: self.bytes() }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packed.is_none()
    }

    /// What the headers weigh, in bytes: names, values and the packing.
    #[inline]
    #[must_use]
    pub fn weight(&self) -> usize {
        self.packed.as_ref().map_or(0, Bytes::len)
    }

    fn bytes(&self) -> &[u8] {
        self.packed.as_deref().unwrap_or_default()
    }
}

fn push(packed: &mut BytesMut, name: &str, value: &[u8]) {
    // A longer name or value could not be sent by any broker: limits are checked before sending, so that cutting
    // here never shows; it only keeps the packing sound.
    let name = &name.as_bytes()[..name.len().min(usize::from(u16::MAX))];
    let value = &value[..value.len().min(u32::MAX as usize)];
    packed.put_u16(name.len() as u16);
    packed.put_u32(value.len() as u32);
    packed.put_slice(name);
    packed.put_slice(value);
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let mut headers = headers.into_iter().peekable();
        // Most messages have none.
        if headers.peek().is_none() {
            return Self::new();
        }
        let mut packed = BytesMut::new();
        for (name, value) in headers {
            push(&mut packed, name.as_ref(), value.as_ref());
        }
        Self { packed: Some(packed.freeze()) }
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a str, &'a [u8]);
    type IntoIter = HeaderIter<'a>;
    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Headers {
    /// Names and the length of each value: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(name, value)| (name, value.len()))).finish()
    }
}

/// Iterates over [`Headers`].
#[derive(Clone)]
pub struct HeaderIter<'a> {
    rest: &'a [u8],
}

impl fmt::Debug for HeaderIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderIter").field("bytes_left", &self.rest.len()).finish()
    }
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (prefix, rest) = self.rest.split_first_chunk::<PREFIX>()?;
        let name_len = usize::from(u16::from_be_bytes([prefix[0], prefix[1]]));
        let value_len = u32::from_be_bytes([prefix[2], prefix[3], prefix[4], prefix[5]]) as usize;
        let (name, rest) = rest.split_at_checked(name_len)?;
        let (value, rest) = rest.split_at_checked(value_len)?;
        self.rest = rest;
        // Names come from `&str`; one that was cut inside a character at 64 KiB reads as empty.
        Some((std::str::from_utf8(name).unwrap_or_default(), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_repeats_and_binary_values() {
        let headers: Headers = [("a", &b"1"[..]), ("b", &[0xff, 0]), ("a", b"2")].into_iter().collect();
        assert_eq!(headers.get("a"), Some(&b"2"[..]));
        assert_eq!(headers.get("b"), Some(&[0xff, 0][..]));
        assert_eq!(headers.get_str("b"), None);
        let longer = headers.with("ç", "ü");
        assert_eq!(longer.get_str("ç"), Some("ü"));
        assert_eq!(longer.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b", "a", "ç"]);
    }

    #[test]
    fn debug_shows_no_value() {
        let headers = Headers::new().with("authorization", "secret");
        assert_eq!(format!("{headers:?}"), r#"{"authorization": 6}"#);
    }
}
