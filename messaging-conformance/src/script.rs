//! [`Script`]: what a message tells its handler to do, so that handlers of one kind serve every test and every process.

use std::time::Duration;

use messaging::Message;
use serde::{Deserialize, Serialize};

/// The header with a message's id.
pub(crate) const ID: &str = "conformance-id";
/// The header with its script, if it has one.
const SCRIPT: &str = "conformance-script";

/// What a handler does with a message: wait for a gate, work, fail. By default it succeeds at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Script {
    /// Waits until the test opens this gate.
    pub(crate) gate: Option<String>,
    /// Works so long, in microseconds.
    pub(crate) work: u64,
    /// Then fails.
    pub(crate) fail: Option<Fail>,
}

/// How a handler fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fail {
    pub(crate) how: How,
    /// Only the first so many runs in one member; every one if it does not say.
    pub(crate) first: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    Transient,
    Permanent,
    Infrastructure,
    Panic,
    /// Never ends.
    Hang,
    /// Ends its process.
    Abort,
}

impl Script {
    pub(crate) fn of(message: &Message) -> Self {
        let script = message.headers.get(SCRIPT).and_then(|json| serde_json::from_slice(json).ok());
        script.unwrap_or_default()
    }

    pub(crate) fn write(&self, message: Message) -> Message {
        if *self == Self::default() {
            return message;
        }
        // A struct of numbers and texts always has a JSON form.
        let json = serde_json::to_vec(self).unwrap_or_default();
        message.with_header(SCRIPT, json)
    }

    pub(crate) fn work(&self) -> Option<Duration> {
        (self.work > 0).then(|| Duration::from_micros(self.work))
    }
}

/// The id of one of our messages.
pub(crate) fn id(message: &Message) -> Option<u64> {
    message.headers.get_str(ID)?.parse().ok()
}

/// A key as histories have it.
pub(crate) fn key_text(message: &Message) -> Option<std::sync::Arc<str>> {
    message.key.as_ref().map(|key| key.escape_ascii().to_string().into())
}
