//! Asks the members of a group what they have.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use lapin::{
    Channel,
    options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use messaging::Error;
use tokio::time::timeout;

use crate::{
    announcement::{Announcement, Holdings},
    announcer::Announcer,
    error::{NOT_FOUND, reply_code, unavailable, while_doing},
    feed::Quiet,
    link::Link,
    names,
};

/// How long members have to answer.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// What each member has that answers: once all have answered of whom any knows, or at a deadline.
///
/// # Errors
/// If the broker cannot be asked.
pub(crate) async fn unsettled(link: &Link, announcer: &Announcer, group: &str) -> Result<Vec<Holdings>, Error> {
    let channel = link.channel().await?;
    let exchange = names::members_exchange(group)?;
    let Some(mut heard) = listen(link, &channel, exchange.clone()).await? else { return Ok(Vec::new()) };
    let question = Announcement { asks: true, ..Announcement::default() };
    announcer.announce(exchange, &serde_json::to_vec(&question).unwrap_or_default()).await?;
    let deadline = Instant::now() + PATIENCE;
    let mut answers: BTreeMap<String, Announcement> = BTreeMap::new();
    while answers.is_empty() || !is_everybody(&answers) {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(Some(next)) = timeout(left, heard.0.next()).await else { break };
        let delivery = next.map_err(|error| while_doing("listening to the group", error))?;
        // What cannot be read is of another version, or of somebody else.
        if let Ok(said) = serde_json::from_slice::<Announcement>(&delivery.data)
            && !said.asks
        {
            if said.left {
                answers.values_mut().for_each(|answer| _ = answer.knows.remove(&said.member));
            }
            answers.insert(said.member.clone(), said);
        }
    }
    link.answer("closing a channel", channel.close(200, "OK".into())).await?;
    Ok(answers.into_values().map(|answer| answer.holdings).collect())
}

fn is_everybody(answers: &BTreeMap<String, Announcement>) -> bool {
    answers.values().flat_map(|answer| &answer.knows).all(|known| answers.contains_key(known))
}

/// Hears a group's members; `None` if there never were any.
async fn listen(link: &Link, channel: &Channel, exchange: ShortString) -> Result<Option<Quiet>, Error> {
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let declaring = channel.queue_declare(ShortString::default(), options, FieldTable::default());
    let queue = link.answer("declaring a queue for answers", declaring).await?.name().clone();
    let options = QueueBindOptions::default();
    let binding = channel.queue_bind(queue.clone(), exchange, ShortString::default(), options, FieldTable::default());
    match timeout(link.patience, binding).await {
        Ok(Err(error)) if reply_code(&error) == Some(NOT_FOUND) => return Ok(None),
        Ok(bound) => bound.map_err(|error| while_doing("binding a queue for answers", error))?,
        Err(_) => return Err(unavailable("no answer to the binding of a queue for answers")),
    }
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consuming = channel.basic_consume(queue, ShortString::default(), options, FieldTable::default());
    link.answer("consuming answers", consuming).await.map(|consumer| Some(Quiet(consumer)))
}
