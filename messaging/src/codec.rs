//! Codecs: how data becomes a payload and back, chosen by content type. JSON is built in; others are registered.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::{BoxError, Error, ErrorKind},
    json,
    message::Message,
    name::Name,
};

/// The media type of JSON, the default.
pub const JSON: Name = Name::from_static("application/json");

/// A payload format beside JSON.
pub trait Codec: Send + Sync + 'static {
    /// The media type that picks this codec, in lower case and without parameters.
    fn content_type(&self) -> &'static str;

    /// Appends the encoded value.
    ///
    /// # Errors
    /// Whatever the format cannot express.
    fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut Vec<u8>) -> Result<(), BoxError>;

    /// Hands a deserializer over the payload to `read`.
    ///
    /// # Errors
    /// The payload's defect, or what `read` reports.
    fn decode(
        &self,
        payload: &[u8],
        read: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), erased_serde::Error>,
    ) -> Result<(), BoxError>;
}

/// The codecs of one [`Messaging`](crate::Messaging): JSON, and those that were added.
#[derive(Clone, Default)]
pub struct Codecs {
    added: Option<Arc<[Box<dyn Codec>]>>,
}

impl Codecs {
    /// JSON and these.
    #[must_use]
    pub fn with(added: Vec<Box<dyn Codec>>) -> Self {
        Self { added: Some(added.into()) }
    }

    /// Appends `value` to `out`, encoded as `content_type` says.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if no codec is registered for the content type or the value cannot be encoded.
    pub fn encode<T: Serialize>(&self, content_type: &str, value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
        let failed = |source: BoxError| {
            Error::new(ErrorKind::Malformed, format!("cannot encode the data as {content_type}")).with_source(source)
        };
        if is_json(content_type) {
            return json::write(out, value).map_err(|error| failed(error.into()));
        }
        let codec = self.find(content_type).ok_or_else(|| unknown(content_type))?;
        codec.encode(value, out).map_err(failed)
    }

    /// The payload as `T`, by the message's content type; JSON where it says none.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`], naming the event and what is wrong with the payload.
    pub fn decode<T: DeserializeOwned>(&self, message: &Message) -> Result<T, Error> {
        match message.content_type.as_deref() {
            Some(content_type) if !is_json(content_type) => self.decode_foreign(content_type, message),
            _ => decode_json(message),
        }
    }

    fn decode_foreign<T: DeserializeOwned>(&self, content_type: &str, message: &Message) -> Result<T, Error> {
        check_defect(message)?;
        let Some(codec) = self.find(content_type) else {
            // Producers that set no media type of their own often leave their client's default.
            return match content_type {
                "" | "application/octet-stream" | "text/plain" => decode_json(message),
                _ => Err(malformed(message, unknown(content_type).into())),
            };
        };
        let mut value = None;
        let mut read = |deserializer: &mut dyn erased_serde::Deserializer<'_>| {
            value = Some(erased_serde::deserialize(deserializer)?);
            Ok(())
        };
        codec.decode(&message.payload, &mut read).map_err(|source| malformed(message, source))?;
        value.ok_or_else(|| malformed(message, "the codec read no value".into()))
    }

    fn find(&self, content_type: &str) -> Option<&dyn Codec> {
        let essence = essence(content_type);
        self.added
            .as_deref()?
            .iter()
            .map(|codec| &**codec)
            .find(|codec| codec.content_type().eq_ignore_ascii_case(essence))
    }
}

impl fmt::Debug for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let added = self.added.as_deref().unwrap_or_default();
        f.debug_list().entry(&"application/json").entries(added.iter().map(|codec| codec.content_type())).finish()
    }
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

#[inline]
fn is_json(content_type: &str) -> bool {
    content_type == "application/json" || is_kind_of_json(content_type)
}

/// Structured suffixes (RFC 6839): `application/vnd.x+json` is JSON too.
fn is_kind_of_json(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence.ends_with("+json") || essence.eq_ignore_ascii_case("application/json")
}

pub(crate) fn decode_json<'a, T: Deserialize<'a>>(message: &'a Message) -> Result<T, Error> {
    check_defect(message)?;
    // One look at the encoding of the whole costs less than one at each string.
    let parsed = match std::str::from_utf8(&message.payload) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(&message.payload),
    };
    parsed.map_err(|error| malformed(message, error.into()))
}

fn check_defect(message: &Message) -> Result<(), Error> {
    match &message.defect {
        None => Ok(()),
        Some(defect) => Err(Error::new(ErrorKind::Malformed, defect.as_str())),
    }
}

fn unknown(content_type: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("no codec is registered for content type {content_type:?}"))
}

fn malformed(message: &Message, source: BoxError) -> Error {
    let what = match message.name() {
        Some(name) => format!("the data of event {name:?} on topic {:?} does not decode", message.topic),
        None => format!("a message on topic {:?} does not decode", message.topic),
    };
    Error::new(ErrorKind::Malformed, what).with_source(source)
}
