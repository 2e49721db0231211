//! What stands in the log: for other programs, and from them.

use std::{io::Write, process::Stdio, sync::Arc, time::Duration};

use messaging::{Envelope, EventId, Message, Position, Timestamp};
use rdkafka::{
    Message as _,
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer},
    message::{Header, Headers, OwnedHeaders, OwnedMessage},
    producer::{BaseProducer, BaseRecord, Producer},
};

use crate::given::{PATIENCE, kafka, messaging, topic};

/// Reads the first records of partition 0 with a plain client.
async fn raw(topic: &str, count: usize) -> Vec<OwnedMessage> {
    let servers = kafka().await.authority();
    let topic = topic.to_owned();
    let read = move || {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", servers).set("group.id", "raw").create().unwrap();
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, rdkafka::Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let deadline = std::time::Instant::now() + PATIENCE;
        let mut records = Vec::new();
        while records.len() < count {
            assert!(std::time::Instant::now() < deadline, "{} of {count} records", records.len());
            records.extend(consumer.poll(Duration::from_millis(100)).map(|record| record.unwrap().detach()));
        }
        records
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

/// Publishes a record with a plain client.
async fn produce(codec: &str, record: BaseRecord<'_, str, str>) {
    let servers = kafka().await.authority();
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", servers).set("compression.type", codec).create().unwrap();
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
}

fn header<'a>(record: &'a OwnedMessage, name: &str) -> Option<&'a str> {
    let headers = record.headers()?;
    headers.iter().find(|header| header.key == name).map(|header| std::str::from_utf8(header.value.unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_carry_the_headers_of_cloudevents_binary_mode() {
    let messaging = messaging().await;
    let topic = topic(&messaging, 1).await;
    let mut message = Message::new(topic.clone(), r#"{"id":7}"#)
        .with_key("7")
        .with_content_type("application/json")
        .with_envelope(Envelope {
            id: EventId::parse("0190a7c5-0000-7000-8000-000000000001"),
            source: "orders".into(),
            name: "orders.created".into(),
            time: Some(Timestamp::from_unix_micros(1_700_000_000_000_000)),
        })
        .with_header("tenant", "ä");
    message.attributes = message.attributes.with("subject", "7");
    messaging.publish_raw(message).await.unwrap();
    let record = raw(&topic, 1).await.remove(0);
    for (name, value) in [
        ("ce_specversion", "1.0"),
        ("ce_id", "0190a7c5-0000-7000-8000-000000000001"),
        ("ce_source", "orders"),
        ("ce_type", "orders.created"),
        ("ce_subject", "7"),
        ("content-type", "application/json"),
        ("tenant", "ä"),
    ] {
        assert_eq!(header(&record, name), Some(value), "{name}");
    }
    assert!(header(&record, "ce_time").is_some_and(|time| time.starts_with("2023-11-14T22:13:20")));
    assert_eq!((record.key(), record.payload()), (Some(&b"7"[..]), Some(&br#"{"id":7}"#[..])));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_key_is_a_key_and_an_empty_payload_is_no_tombstone() {
    let messaging = messaging().await;
    let topic = topic(&messaging, 1).await;
    messaging.publish_raw(Message::new(topic.clone(), "")).await.unwrap();
    messaging.publish_raw(Message::new(topic.clone(), "x").with_key("")).await.unwrap();
    let records = raw(&topic, 2).await;
    assert_eq!((records[0].key(), records[0].payload()), (None, Some(&b""[..])));
    assert_eq!((records[1].key(), records[1].payload()), (Some(&b""[..]), Some(&b"x"[..])));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_other_programs_are_read_whatever_compressed_them() {
    let messaging = messaging().await;
    let topic = topic(&messaging, 1).await;
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        let payload = codec.repeat(1_000);
        let headers = OwnedHeaders::new()
            .insert(Header { key: "codec", value: Some(codec) })
            .insert(Header { key: "nothing", value: None::<&str> });
        let record = BaseRecord::<str, str>::to(&topic).payload(&payload).headers(headers);
        produce(codec, record).await;
    }
    // A tombstone: a key, and no payload at all.
    produce("none", BaseRecord::<str, str>::to(&topic).key("gone")).await;
    let read = messaging.admin().browse(&topic, 0, Position::new(0), 10).await.unwrap();
    assert_eq!(read.len(), codecs.len() + 1);
    for (delivery, codec) in read.iter().zip(codecs) {
        assert_eq!(delivery.message.payload, codec.repeat(1_000));
        assert_eq!(delivery.message.headers.get_str("codec"), Some(codec));
        assert_eq!(delivery.message.headers.get_str("nothing"), Some(""));
    }
    let tombstone = &read[codecs.len()].message;
    assert_eq!((tombstone.key.as_deref(), &tombstone.payload[..]), (Some(&b"gone"[..]), &b""[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_where_the_java_client_sends_them() {
    const KEYS: usize = 10_000;
    let messaging = messaging().await;
    let topic = topic(&messaging, 12).await;
    let mut random = fastrand::Rng::with_seed(12);
    let mut keys: Vec<Vec<u8>> = vec![Vec::new(), "ключ".into(), "\u{1f980}".into(), vec![0xff, 0x80, 0], vec![0x80]];
    keys.resize_with(KEYS, || (0..random.usize(1..40)).map(|_| random.u8(..)).collect());

    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/Partitions.java");
    let mut java = kafka().await.java(source).unwrap();
    java.arg(kafka().await.authority()).arg(&topic);
    let mut child = java.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines: String =
        keys.iter().map(|key| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n").collect();
    input.write_all(lines.as_bytes()).unwrap();
    drop(input);
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("jdk.compiler") && !test_brokers::is_ci() {
        eprintln!("not here: this Java has no compiler");
        return;
    }
    let theirs: Vec<u32> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(theirs.len(), KEYS, "{said}");

    for (keys, theirs) in keys.chunks(1_000).zip(theirs.chunks(1_000)) {
        let message = |key: &Vec<u8>| Arc::new(Message::new(topic.clone(), "x").with_key(key.clone()));
        let ours = messaging.publish_messages(keys.iter().map(message).collect()).await;
        for ((key, ours), theirs) in keys.iter().zip(ours).zip(theirs) {
            assert_eq!(ours.confirmed().unwrap().partition, *theirs, "{key:?}");
        }
    }
}
