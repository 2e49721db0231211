//! `publish`: one message, confirmed by the broker.

use std::{io::Read as _, str::FromStr, sync::Arc};

use bytes::Bytes;
use messaging::{Broker, Envelope, EventId, JSON, Message, Messaging, MessagingOptions, Timestamp};
use serde::Serialize;

use crate::{cli::Publish, connect::CLOSE_DEADLINE, failure::Failure, output::Output, place::check_name};

/// A header on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderArgument {
    name: String,
    value: String,
}

impl FromStr for HeaderArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self { name: name.to_owned(), value: value.to_owned() }),
            _ => Err("a header is given as name=value".to_owned()),
        }
    }
}

/// Where the message went.
#[derive(Debug, Serialize)]
struct Published {
    topic: String,
    partition: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

pub(crate) async fn run(broker: Arc<dyn Broker>, asked: &Publish, out: &Output) -> Result<(), Failure> {
    let message = message(asked, data(&asked.data)?)?;
    let id = message.envelope.as_ref().map(|envelope| envelope.id.to_string());
    let messaging = Messaging::new(broker, MessagingOptions::default()).await?;
    let receipt = messaging.publish_raw(message).await?;
    let published = Published {
        topic: asked.topic.clone(),
        partition: receipt.partition,
        position: receipt.position.map(|position| position.to_string()),
        id,
    };
    out.record(&published, |published| {
        let position = published.position.iter().map(|position| format!("@{position}"));
        let id = published.id.iter().map(|id| format!(", id {id}"));
        let place = format!("published to {}/{}", published.topic, published.partition);
        std::iter::once(place).chain(position).chain(id).collect()
    })?;
    Ok(messaging.close(CLOSE_DEADLINE).await?)
}

fn message(asked: &Publish, data: Bytes) -> Result<Message, Failure> {
    check_name("TOPIC", "topic", &asked.topic)?;
    let mut message = Message::new(asked.topic.as_str(), data);
    if let Some(key) = &asked.key {
        message = message.with_key(Bytes::copy_from_slice(key.as_bytes()));
    }
    if let Some(name) = &asked.name {
        check_name("--name", "event", name)?;
        message = message.with_envelope(Envelope {
            id: asked.id.as_deref().map_or_else(EventId::generate, EventId::parse),
            source: asked.source.as_str().into(),
            name: name.as_str().into(),
            time: Some(Timestamp::now()),
        });
    }
    match (&asked.content_type, &asked.name) {
        (Some(media_type), _) => message = message.with_content_type(media_type.as_str()),
        (None, Some(_)) => {
            serde_json::from_slice::<serde::de::IgnoredAny>(&message.payload)
                .map_err(|error| Failure::usage(format!("DATA: not JSON ({error}); name it by --content-type")))?;
            message = message.with_content_type(JSON);
        }
        (None, None) => {}
    }
    Ok(asked.header.iter().fold(message, |message, header| message.with_header(&header.name, &header.value)))
}

fn data(argument: &str) -> Result<Bytes, Failure> {
    if argument == "-" {
        let mut read = Vec::new();
        let result = std::io::stdin().lock().read_to_end(&mut read);
        result.map_err(|error| Failure::failed(format!("DATA: the standard input cannot be read: {error}")))?;
        return Ok(read.into());
    }
    match argument.strip_prefix('@') {
        Some(file) => match std::fs::read(file) {
            Ok(read) => Ok(read.into()),
            Err(error) => Err(Failure::usage(format!("DATA: {file} cannot be read: {error}"))),
        },
        None => Ok(Bytes::copy_from_slice(argument.as_bytes())),
    }
}
