//! A transaction on its way, in two parts: its commands, which the server queues, and `EXEC`. The first part of the next
//! transaction follows the second of the one before, so that the server has it when that was executed; its `EXEC` waits
//! until that is known to have gone well.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use messaging::{Error, ErrorKind};
use redis::{Cmd, Pipeline, RedisResult, ServerError, Value, aio::MultiplexedConnection};
use tokio::time::Instant;

use crate::link::is_broken;

/// The answers to the commands that the server queues; they are sent when this is polled.
pub(super) type Queueing = Pin<Box<dyn Future<Output = RedisResult<Vec<Value>>> + Send>>;

/// How a transaction ended.
pub(super) struct Landed {
    pub(super) sent: Sent,
    /// Its connection is of no more use.
    pub(super) is_spoiled: bool,
}

impl Landed {
    pub(super) fn not_sent(error: Error) -> Self {
        Self { sent: Sent::Later(error), is_spoiled: false }
    }

    pub(super) fn went_well(&self) -> bool {
        matches!(self.sent, Sent::Answers(_))
    }
}

/// What became of the messages of a transaction.
pub(super) enum Sent {
    /// Executed: an answer for each message.
    Answers(Vec<Value>),
    /// Surely not stored; the server may take it in a moment.
    Later(Error),
    /// Surely not stored, nor will it be. By whose fault is not known if there are several topics in it.
    Refused(Error),
    /// May be stored.
    Unknown(Error),
}

/// Has the server queue these commands, which begin with `MULTI`.
pub(super) fn queue(conn: &MultiplexedConnection, commands: Pipeline, deadline: Instant) -> Queueing {
    let mut conn = conn.clone();
    conn.set_response_timeout(deadline.saturating_duration_since(Instant::now()));
    Box::pin(async move { conn.send_packed_commands(&commands, 0, commands.len()).await })
}

/// Sends what is to be queued, without waiting for answers. `None` if it has failed already.
pub(super) async fn begun(mut queueing: Queueing) -> Option<Queueing> {
    let begun = poll_fn(|cx| Poll::Ready(queueing.as_mut().poll(cx).is_pending())).await;
    begun.then_some(queueing)
}

/// Has what was queued executed; answers for so many messages.
pub(super) async fn execute(
    mut conn: MultiplexedConnection,
    queueing: Queueing,
    messages: usize,
    deadline: Instant,
) -> Landed {
    conn.set_response_timeout(deadline.saturating_duration_since(Instant::now()));
    let mut exec = Cmd::new();
    exec.arg("EXEC");
    // In this order: what is polled first is sent first.
    let (queued, executed) = tokio::join!(biased; queueing, conn.send_packed_command(&exec));
    match executed {
        Ok(Value::Array(answers)) if answers.len() == messages => {
            Landed { sent: Sent::Answers(answers), is_spoiled: false }
        }
        Ok(Value::ServerError(error)) => refused(queued.unwrap_or_default(), error),
        Ok(other) => {
            let answers = match &other {
                Value::Array(answers) => format!("{} answers", answers.len()),
                other => format!("{other:?}"),
            };
            let what = format!("the answer to a transaction of {messages} messages is not understood: {answers}");
            Landed { sent: Sent::Unknown(Error::new(ErrorKind::Unknown, what)), is_spoiled: true }
        }
        Err(error) => {
            let what = format!("no answer to what was sent: {error}");
            Landed { sent: Sent::Unknown(Error::new(ErrorKind::Unknown, what)), is_spoiled: is_broken(&error) }
        }
    }
}

/// What a refusal says of a transaction's messages: the reason stands where a command was to be queued, or in the error
/// of the `EXEC` itself.
fn refused(queued: Vec<Value>, executed: ServerError) -> Landed {
    let reason = queued.into_iter().find_map(|answer| match answer {
        Value::ServerError(error) => Some(error),
        _ => None,
    });
    let reason = reason.unwrap_or(executed);
    let details = reason.details().unwrap_or_default();
    let (code, details) = match details.strip_prefix(ABORTED) {
        Some(inner) => inner.split_once(' ').unwrap_or((inner, "")),
        None => (reason.code(), details),
    };
    let error = refusal(code, details);
    let sent = if is_momentary(code) { Sent::Later(error) } else { Sent::Refused(error) };
    Landed { sent, is_spoiled: is_elsewhere(code) }
}

/// How the server begins to say why it does not execute what it has queued.
const ABORTED: &str = "Transaction discarded because of: ";

/// Errors of the server's state rather than of the message.
fn is_momentary(code: &str) -> bool {
    is_elsewhere(code) || ["OOM", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS", "MISCONF"].contains(&code)
}

/// Whether the server is not, or not yet, the one to write to: another connection may find the one that is.
fn is_elsewhere(code: &str) -> bool {
    ["READONLY", "LOADING", "MASTERDOWN"].contains(&code)
}

/// What an error of the server says of a message.
pub(super) fn rejection(error: &ServerError) -> Error {
    refusal(error.code(), error.details().unwrap_or_default())
}

fn refusal(code: &str, details: &str) -> Error {
    let kind = if is_momentary(code) { ErrorKind::Unavailable } else { ErrorKind::Rejected };
    Error::new(kind, format!("refused by the server: {code} {details}"))
}
