//! What is published is what arrives, byte for byte; and where it goes is the same on every backend.

use std::sync::Arc;

use bytes::Bytes;
use messaging::{Delivery, Envelope, EventId, Headers, Message, Router, Timestamp, partition_for_key};
use tokio::sync::mpsc;

use super::{Promise, World, promise};
use crate::failure::{Checked, Failure, require};

pub(super) fn promises() -> Vec<Promise> {
    vec![
        promise!("C1", payloads_arrive_byte_for_byte),
        promise!("C1", keys_arrive_byte_for_byte),
        promise!("C1", headers_arrive_byte_for_byte),
        promise!("C1", envelopes_arrive_with_every_attribute),
        promise!("C5", foreign_plain_json_is_read),
        promise!("C5", foreign_structured_cloudevents_are_read),
        promise!("C5", foreign_binary_cloudevents_are_read),
        promise!("backends", keys_land_where_kafkas_java_client_puts_them),
    ]
}

/// Publishes messages one after the other to a fresh topic, and gets them from a group.
async fn through(world: &World, messages: impl IntoIterator<Item = Message>) -> Checked<Vec<(Message, Delivery)>> {
    let topic = world.topic("letters", 4).await?;
    let (sender, mut arrived) = mpsc::unbounded_channel();
    let handler = move |delivery: Delivery| {
        let sender = sender.clone();
        async move {
            // The test may have seen enough.
            let _ = sender.send(delivery);
        }
    };
    let messaging = world.messaging().await?;
    let running = messaging.run_one(Router::new(world.name("readers")).on_message(topic.as_str(), handler)).await?;
    let mut pairs = Vec::new();
    for mut message in messages {
        message.topic = topic.as_str().into();
        messaging.publish_raw(message.clone()).await?;
        let delivery = tokio::time::timeout(world.pace.patience, arrived.recv()).await;
        let delivery = delivery.ok().flatten().ok_or_else(|| Failure::new(format!("{message:?} does not arrive")))?;
        pairs.push((message, delivery));
    }
    running.shutdown(world.pace.patience).await?;
    messaging.close(world.pace.patience).await?;
    require!(arrived.try_recv().is_err(), "something arrived twice");
    Ok(pairs)
}

async fn payloads_arrive_byte_for_byte(world: &World) -> Checked {
    let limit = world.capabilities().max_message_bytes;
    let mega: Vec<u8> = world.random(|random| (0..1_000_000.min(limit)).map(|_| random.u8(..)).collect());
    let payloads: Vec<Bytes> = vec![
        Bytes::new(),
        Bytes::from_static(b"\0"),
        (0..=255).collect::<Vec<u8>>().into(),
        "\u{1f980} ünïcödé \u{0}\n".into(),
        Bytes::from_static(b"\xff\xfe\x00\x01\xc3\x28"),
        Bytes::from_static(b"null"),
        vec![0; 65_536].into(),
        mega.into(),
    ];
    let messages = payloads.into_iter().map(|payload| Message::new("", payload));
    for (sent, got) in through(world, messages).await? {
        let (sent, got) = (&sent.payload, &got.message.payload);
        require!(sent == got, "{} bytes were sent, and {} other bytes arrived", sent.len(), got.len());
    }
    Ok(())
}

async fn keys_arrive_byte_for_byte(world: &World) -> Checked {
    let keys: Vec<Option<Bytes>> = vec![
        None,
        Some(Bytes::new()),
        Some("plain".into()),
        Some("schlüssel \u{1f511}".into()),
        Some(Bytes::from_static(b"\xff\x00\xfe")),
        Some(vec![b'k'; 1_000].into()),
    ];
    let messages = keys.into_iter().map(|key| {
        let mut message = Message::new("", "payload");
        message.key = key;
        message
    });
    for (sent, got) in through(world, messages).await? {
        require!(sent.key == got.message.key, "key {:?} arrived as {:?}", sent.key, got.message.key);
    }
    Ok(())
}

async fn headers_arrive_byte_for_byte(world: &World) -> Checked {
    let many: Headers = (0..50).map(|index| (format!("name-{index}"), format!("value {index}"))).collect();
    let sets = vec![
        Headers::new(),
        Headers::new().with("empty", ""),
        Headers::new().with("binary", b"\xff\x00\r\n\xfe"),
        Headers::new().with("unicode", "Grüße \u{1f600}"),
        Headers::new().with("Mixed-Case", "kept"),
        Headers::new().with("ünicode-name", "a"),
        Headers::new().with("long", "x".repeat(10_000)),
        Headers::new().with("twice", "first").with("other", "between").with("twice", "second"),
        many,
    ];
    let messages = sets.into_iter().map(|headers| {
        let mut message = Message::new("", "payload");
        message.headers = headers;
        message
    });
    for (sent, got) in through(world, messages).await? {
        for (name, _) in &sent.headers {
            let (sent, got) = (sent.headers.get(name), got.message.headers.get(name));
            require!(sent == got, "header {name:?}: {sent:?} arrived as {got:?}");
        }
        let added = got.message.headers.iter().find(|(name, _)| sent.headers.get(name).is_none());
        require!(added.is_none(), "a header was added: {added:?}");
    }
    Ok(())
}

async fn envelopes_arrive_with_every_attribute(world: &World) -> Checked {
    let envelope = |id| Envelope {
        id,
        source: "https://example.com/söurce".into(),
        name: "orders.created".into(),
        time: Some(Timestamp::from_unix_micros(1_700_000_000_123_456)),
    };
    let full = |id| {
        let mut message = Message::new("", r#"{"a":1}"#).with_key("k").with_content_type("application/json");
        message = message.with_envelope(envelope(id)).with_header("tenant", "x");
        message.attributes = Headers::new().with("subject", "7").with("dataschema", "urn:x").with("correlationid", "9");
        message
    };
    let mut without_time = full(EventId::generate());
    if let Some(envelope) = &mut without_time.envelope {
        envelope.time = None;
    }
    let binary = full(EventId::generate()).with_content_type("application/octet-stream");
    let messages = [full(EventId::generate()), full(EventId::parse("any text, ünicode")), without_time, binary];
    for (sent, got) in through(world, messages).await? {
        let got = &got.message;
        require!(sent.envelope == got.envelope, "{:?} arrived as {:?}", sent.envelope, got.envelope);
        require!(sent.content_type == got.content_type, "{:?} arrived as {:?}", sent.content_type, got.content_type);
        for (name, value) in &sent.attributes {
            let arrived = got.attributes.get(name);
            require!(arrived == Some(value), "attribute {name:?} arrived as {arrived:?}");
        }
        require!(got.defect.is_none(), "a defect: {:?}", got.defect);
    }
    Ok(())
}

async fn foreign_plain_json_is_read(world: &World) -> Checked {
    // What a program without this library publishes: a body, perhaps a media type, no envelope.
    let body = r#"{"id": 7, "user_email": "a@example.com"}"#;
    let plain = Message::new("", body);
    let typed = Message::new("", body).with_content_type("application/json").with_header("x-foreign", "1");
    for (_, got) in through(world, [plain, typed]).await? {
        require!(got.message.envelope.is_none(), "an envelope appeared: {:?}", got.message.envelope);
        let value: serde_json::Value = got.json()?;
        require!(value["id"] == 7, "read as {value}");
    }
    Ok(())
}

async fn foreign_structured_cloudevents_are_read(world: &World) -> Checked {
    let body = r#"{"specversion":"1.0","id":"e-1","source":"/s","type":"t.happened","time":"2024-01-02T03:04:05Z",
        "subject":"x","datacontenttype":"application/json","extension":5,"data":{"a":[1,2]}}"#;
    let message = Message::new("", body).with_content_type("application/cloudevents+json; charset=utf-8");
    for (_, got) in through(world, [message]).await? {
        let message: &Arc<Message> = &got.message;
        require!(message.defect.is_none(), "a defect: {:?}", message.defect);
        require!(message.name() == Some("t.happened"), "its name is {:?}", message.name());
        let id = message.envelope.as_ref().map(|envelope| envelope.id.to_string());
        require!(id.as_deref() == Some("e-1"), "its id is {id:?}");
        require!(message.attributes.get_str("extension") == Some("5"), "attributes: {:?}", message.attributes);
        let value: serde_json::Value = got.json()?;
        require!(value["a"][1] == 2, "its data is {value}");
    }
    Ok(())
}

async fn foreign_binary_cloudevents_are_read(world: &World) -> Checked {
    let attributes =
        [("specversion", "1.0"), ("id", "e-1"), ("source", "/s"), ("type", "t.happened"), ("extension", "5")];
    let plain = Message::new("", r#"{"a":1}"#).with_content_type("application/json").with_header("tenant", "x");
    let message =
        attributes.into_iter().fold(plain, |message, (name, value)| message.with_header(&format!("ce_{name}"), value));
    for (_, got) in through(world, [message]).await? {
        let message = &got.message;
        require!(message.name() == Some("t.happened"), "its name is {:?}", message.name());
        require!(message.attributes.get_str("extension") == Some("5"), "attributes: {:?}", message.attributes);
        require!(message.headers.get_str("tenant") == Some("x"), "headers: {:?}", message.headers);
    }
    Ok(())
}

async fn keys_land_where_kafkas_java_client_puts_them(world: &World) -> Checked {
    const KEYS: usize = 10_000;
    let topic = world.topic("letters", 12).await?;
    let mut keys: Vec<Bytes> = vec![Bytes::new(), "ü".into(), Bytes::from_static(b"\xff\x80\x00")];
    keys.resize_with(KEYS, || {
        world.random(|random| {
            let length = random.usize(1..24);
            (0..length).map(|_| random.u8(..)).collect::<Vec<u8>>().into()
        })
    });
    let messaging = world.messaging().await?;
    for keys in keys.chunks(1_000) {
        let message = |key: &Bytes| Arc::new(Message::new(topic.as_str(), "x").with_key(key.clone()));
        let outcomes = messaging.publish_messages(keys.iter().map(message).collect()).await;
        for (key, outcome) in keys.iter().zip(outcomes) {
            let (expected, partition) = (partition_for_key(key, 12), outcome.confirmed()?.partition);
            require!(partition == expected, "key {key:?} went to {partition}, not to {expected}");
        }
    }
    // And they are there, not only said to be.
    let stored = world.stored(&topic).await?;
    require!(stored.len() == KEYS, "{} of {KEYS} are stored", stored.len());
    for delivery in stored {
        let key = delivery.message.key.clone().unwrap_or_default();
        let expected = partition_for_key(&key, 12);
        require!(delivery.partition == expected, "key {key:?} is in {}, not in {expected}", delivery.partition);
    }
    messaging.close(world.pace.patience).await?;
    Ok(())
}
