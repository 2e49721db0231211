//! `dead-letters`: what a group gave up, to be looked at, handed to it once more, or dropped.

pub(crate) mod filter;
mod resolve;
mod unresolved;

use std::sync::Arc;

use messaging::{Broker, DeadLetter, Shape};
use serde::Serialize;

use self::unresolved::{Letter, Unresolved};
use crate::{
    cli::{Chosen, Resolve},
    failure::Failure,
    output::{Output, brief},
    shown::{Shown, key_text, one_line},
};

/// A dead letter as a JSON object: what happened.
#[derive(Debug, Serialize)]
struct Told {
    id: String,
    group: String,
    topic: String,
    partition: u32,
    position: String,
    epoch: u64,
    handler: String,
    attempts: u32,
    first_failed_at: String,
    last_failed_at: String,
    error: String,
    /// How much of the message the letter holds.
    holds: &'static str,
    copies: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    key: String,
}

/// The same with the message.
#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    told: Told,
    message: Shown,
}

impl Told {
    fn of(letter: &Letter) -> Self {
        let told = &letter.told;
        Self {
            id: letter.label(),
            group: told.group.to_string(),
            topic: told.topic.to_string(),
            partition: told.partition,
            position: told.position.to_string(),
            epoch: told.epoch,
            handler: told.handler.to_string(),
            attempts: told.attempts,
            first_failed_at: told.first_failed_at.to_string(),
            last_failed_at: told.last_failed_at.to_string(),
            error: told.error.clone(),
            holds: match told.shape {
                Shape::Full => "everything",
                Shape::WithoutError => "everything but the error",
                Shape::WithoutHeaders => "neither error nor headers",
                Shape::Pointer => "only where it stood",
            },
            copies: letter.copies,
            event: letter.delivery.message.name().map(str::to_owned),
            key: key_text(&letter.delivery.message),
        }
    }
}

pub(crate) async fn list(broker: &dyn Broker, asked: &Chosen, out: &Output) -> Result<(), Failure> {
    let found = unresolved::find(&*broker.admin(), asked).await?;
    let rows: Vec<Told> = found.letters.iter().map(Told::of).collect();
    if !rows.is_empty() || out.is_json() {
        out.table(["ID", "FAILED", "EVENT", "KEY", "FROM", "ATTEMPTS", "ERROR"], &rows, |told| {
            [
                one_line(&told.id),
                told.last_failed_at.get(..19).unwrap_or(&told.last_failed_at).to_owned(),
                one_line(told.event.as_deref().unwrap_or(&told.handler)),
                brief(&told.key, 30),
                format!("{}/{}@{}", told.topic, told.partition, told.position),
                told.attempts.to_string(),
                brief(&told.error, 60),
            ]
        })?;
    }
    tell_rest(&found, out);
    Ok(())
}

pub(crate) async fn show(broker: &dyn Broker, asked: &Chosen, out: &Output) -> Result<(), Failure> {
    let found = unresolved::find(&*broker.admin(), asked).await?;
    for letter in &found.letters {
        let mut original = letter.delivery.clone();
        let message = Arc::make_mut(&mut original.message);
        message.headers = DeadLetter::original_headers(message);
        let whole = Whole { told: Told::of(letter), message: Shown::of(&original) };
        out.record(&whole, |whole| text(whole, letter))?;
    }
    tell_rest(&found, out);
    Ok(())
}

/// A dead letter as a block of lines.
fn text(whole: &Whole, letter: &Letter) -> String {
    let told = &whole.told;
    let message = &letter.delivery.message;
    let mut lines = vec![
        format!("id         {}", one_line(&told.id)),
        format!(
            "from       {}/{}@{} of group {}, epoch {}",
            told.topic, told.partition, told.position, told.group, told.epoch
        ),
        format!("handler    {}", one_line(&told.handler)),
        format!("attempts   {}, from {} to {}", told.attempts, told.first_failed_at, told.last_failed_at),
        format!("error      {}", one_line(&told.error)),
    ];
    if letter.told.shape != Shape::Full {
        lines.push(format!("holds      {}", told.holds));
    }
    if told.copies > 1 {
        lines.push(format!("copies     {}", told.copies));
    }
    if let Some(envelope) = &message.envelope {
        let time = envelope.time.map(|time| format!(" at {time}")).unwrap_or_default();
        lines.push(format!("event      {} from {}{time}", one_line(&envelope.name), one_line(&envelope.source)));
    }
    if message.key.is_some() {
        lines.push(format!("key        {}", told.key));
    }
    if let Some(media_type) = &message.content_type {
        lines.push(format!("type       {}", one_line(media_type)));
    }
    let original = DeadLetter::original_headers(message);
    let headers = message.attributes.iter().chain(original.iter());
    lines.extend(
        headers.map(|(name, value)| {
            format!("header     {}: {}", one_line(name), one_line(&crate::shown::value_text(value)))
        }),
    );
    lines.push(format!("payload    {}\n", one_line(&whole.message.payload().to_string())));
    lines.join("\n")
}

fn tell_rest(found: &Unresolved, out: &Output) {
    if found.letters.is_empty() {
        out.note("no dead letters");
    }
    if found.left_out > 0 {
        out.note(&format!("{} more (--limit)", found.left_out));
    }
    if found.foreign > 0 {
        out.note(&format!("{} messages of the dead-letter topic are no dead letters", found.foreign));
    }
}

pub(crate) async fn replay(broker: Arc<dyn Broker>, asked: &Resolve, out: &Output) -> Result<(), Failure> {
    resolve::run(broker, asked, resolve::Act::Replay, out).await
}

pub(crate) async fn drop(broker: Arc<dyn Broker>, asked: &Resolve, out: &Output) -> Result<(), Failure> {
    resolve::run(broker, asked, resolve::Act::Drop, out).await
}
