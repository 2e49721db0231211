//! [`write`]: JSON as serde_json writes it, but for the names of a struct's fields: those are literals of the program, so
//! that the compiler sees once whether they need an escape, instead of serde_json at each message.

use std::fmt::Display;

use serde::{Serialize, Serializer, ser::SerializeStruct};
use serde_json::{Error, Result};

type Json<'a> = serde_json::Serializer<&'a mut Vec<u8>>;
/// What serde_json answers for a compound value.
type Theirs<'s, 'a> = <&'s mut Json<'a> as Serializer>::SerializeStruct;

/// Appends the value.
#[inline]
pub(crate) fn write<T: Serialize>(out: &mut Vec<u8>, value: &T) -> Result<()> {
    value.serialize(Root { out, json: &mut None })
}

/// Serializes the outermost value: a struct itself, anything else by serde_json.
struct Root<'s, 'a> {
    out: &'a mut Vec<u8>,
    /// The place of serde_json's serializer, which its compound values borrow.
    json: &'s mut Option<Json<'a>>,
}

impl<'s, 'a> Root<'s, 'a> {
    fn theirs(self) -> &'s mut Json<'a> {
        self.json.insert(Json::new(self.out))
    }
}

enum Fields<'s, 'a> {
    Ours {
        out: &'a mut Vec<u8>,
        /// What stands before the next field.
        before: u8,
    },
    Theirs(Theirs<'s, 'a>),
}

impl SerializeStruct for Fields<'_, '_> {
    type Ok = ();
    type Error = Error;

    // Always: only where the name stands does the compiler know it.
    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<()> {
        let (out, before) = match self {
            Self::Ours { out, before } => (out, before),
            Self::Theirs(fields) => return fields.serialize_field(name, value),
        };
        out.push(std::mem::replace(before, b','));
        // Without an early end the compiler does this of a literal.
        if name.bytes().fold(false, |escapes, byte| escapes | matches!(byte, ..0x20 | b'"' | b'\\')) {
            name.serialize(&mut Json::new(out))?;
            out.push(b':');
        } else {
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
        }
        value.serialize(&mut Json::new(out))
    }

    #[inline]
    fn end(self) -> Result<()> {
        match self {
            Self::Ours { out, before } => out.extend_from_slice(if before == b'{' { b"{}" } else { b"}" }),
            Self::Theirs(fields) => return SerializeStruct::end(fields),
        }
        Ok(())
    }
}

/// Methods that serde_json's serializer answers.
macro_rules! by_serde_json {
    ($($method:ident$(<$T:ident>)?($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {$(
        fn $method$(<$T: Serialize + ?Sized>)?(self, $($argument: $type),*) -> Result<$answer> {
            self.theirs().$method($($argument),*)
        }
    )*};
}

impl<'s, 'a> Serializer for Root<'s, 'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Theirs<'s, 'a>;
    type SerializeTuple = Theirs<'s, 'a>;
    type SerializeTupleStruct = Theirs<'s, 'a>;
    type SerializeTupleVariant = Theirs<'s, 'a>;
    type SerializeMap = Theirs<'s, 'a>;
    type SerializeStruct = Fields<'s, 'a>;
    type SerializeStructVariant = Theirs<'s, 'a>;

    #[inline]
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Fields<'s, 'a>> {
        // Names that stand for something else in serde_json begin so.
        if name.starts_with('$') {
            return self.theirs().serialize_struct(name, len).map(Fields::Theirs);
        }
        Ok(Fields::Ours { out: self.out, before: b'{' })
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<()> {
        self.theirs().collect_str(value)
    }

    by_serde_json! {
        serialize_bool(value: bool) -> ();
        serialize_i8(value: i8) -> ();
        serialize_i16(value: i16) -> ();
        serialize_i32(value: i32) -> ();
        serialize_i64(value: i64) -> ();
        serialize_i128(value: i128) -> ();
        serialize_u8(value: u8) -> ();
        serialize_u16(value: u16) -> ();
        serialize_u32(value: u32) -> ();
        serialize_u64(value: u64) -> ();
        serialize_u128(value: u128) -> ();
        serialize_f32(value: f32) -> ();
        serialize_f64(value: f64) -> ();
        serialize_char(value: char) -> ();
        serialize_str(value: &str) -> ();
        serialize_bytes(value: &[u8]) -> ();
        serialize_none() -> ();
        serialize_some<T>(value: &T) -> ();
        serialize_unit() -> ();
        serialize_unit_struct(name: &'static str) -> ();
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str) -> ();
        serialize_newtype_struct<T>(name: &'static str, value: &T) -> ();
        serialize_newtype_variant<T>(name: &'static str, index: u32, variant: &'static str, value: &T) -> ();
        serialize_seq(len: Option<usize>) -> Theirs<'s, 'a>;
        serialize_tuple(len: usize) -> Theirs<'s, 'a>;
        serialize_tuple_struct(name: &'static str, len: usize) -> Theirs<'s, 'a>;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize) -> Theirs<'s, 'a>;
        serialize_map(len: Option<usize>) -> Theirs<'s, 'a>;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize) -> Theirs<'s, 'a>;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize)]
    struct Unit;

    #[derive(Serialize)]
    struct Empty {}

    #[derive(Serialize)]
    struct Wrapped<T>(T);

    #[derive(Serialize)]
    struct Order<'a> {
        id: u64,
        #[serde(rename = "a \"quoted\"\\\n näme\u{7f}")]
        escaped: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<&'a str>,
        price: f64,
        lines: Vec<Empty>,
    }

    #[derive(Serialize)]
    struct Flat<'a> {
        first: u8,
        #[serde(flatten)]
        order: Order<'a>,
    }

    #[derive(Serialize)]
    struct SkipsFirst<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        first: Option<u8>,
        second: Wrapped<Order<'a>>,
    }

    #[derive(Serialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Struct { id: u8 },
        Unit,
    }

    #[derive(Serialize)]
    enum Plain<'a> {
        Unit,
        Newtype(i128),
        Tuple(u8, char),
        Struct { order: Order<'a> },
    }

    #[track_caller]
    fn same<T: Serialize>(value: T) {
        let mut out = b"before".to_vec();
        write(&mut out, &value).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("before{}", serde_json::to_string(&value).unwrap()));
    }

    fn order(note: Option<&str>) -> Order<'_> {
        Order { id: 7, escaped: "\"\u{1}ä", note, price: f64::NAN, lines: vec![Empty {}, Empty {}] }
    }

    #[test]
    fn structs_are_written_as_serde_json_writes_them() {
        same(order(None));
        same(order(Some("x")));
        same(Empty {});
        same(Flat { first: 1, order: order(None) });
        same(SkipsFirst { first: None, second: Wrapped(order(None)) });
        same(SkipsFirst { first: Some(1), second: Wrapped(order(None)) });
        same(Tagged::Struct { id: 1 });
        same(Tagged::Unit);
    }

    #[test]
    fn everything_else_is_written_by_serde_json() {
        same(Unit);
        same(());
        same(Wrapped(order(None)));
        same([Plain::Unit, Plain::Newtype(i128::MIN), Plain::Tuple(1, '"'), Plain::Struct { order: order(None) }]);
        same(Plain::Unit);
        same(Plain::Newtype(1));
        same(Plain::Tuple(1, 'x'));
        same(Plain::Struct { order: order(None) });
        same((1u8, "a", Some(order(None)), None::<u8>));
        same(BTreeMap::from([("a", 1.5f32), ("b\n", f32::INFINITY)]));
        same(serde_json::json!({"a": [1, null, {"b": true}]}));
        same(std::net::Ipv4Addr::LOCALHOST);
    }

    #[test]
    fn what_cannot_be_written_is_an_error() {
        struct Keys {
            map: BTreeMap<[u8; 1], u8>,
        }
        impl Serialize for Keys {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                let mut fields = serializer.serialize_struct("Keys", 1)?;
                fields.serialize_field("map", &self.map)?;
                fields.end()
            }
        }
        let keys = Keys { map: BTreeMap::from([([1], 1)]) };
        assert_eq!(write(&mut Vec::new(), &keys).unwrap_err().to_string(), "key must be a string");
    }
}
