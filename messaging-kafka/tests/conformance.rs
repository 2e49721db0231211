//! The delivery contract on a real Apache Kafka.

use std::process::ExitCode;

use messaging::{BoxError, Position};
use messaging_kafka::KafkaBackend;
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
    config::ClientConfig,
};

fn main() -> ExitCode {
    // Shown beside a failing test: `RUST_LOG=messaging=debug`.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    messaging_conformance::main(conformance_brokers::kafka(KafkaBackend).grow(grow).forget(forget).build())
}

fn admin(url: &str) -> Result<AdminClient<DefaultClientContext>, BoxError> {
    let servers = url.trim_start_matches("kafka://").split('?').next().unwrap_or_default();
    Ok(ClientConfig::new().set("bootstrap.servers", servers).create()?)
}

async fn grow(url: String, topic: String, partitions: u32) -> Result<(), BoxError> {
    let more = NewPartitions::new(&topic, partitions as usize);
    let done = admin(&url)?.create_partitions([&more], &AdminOptions::new()).await?;
    done.into_iter().try_for_each(|topic| topic.map(drop).map_err(|(topic, code)| format!("{topic}: {code}").into()))
}

/// Removes what stands before `first`, as retention does.
async fn forget(url: String, topic: String, partition: u32, first: Position) -> Result<(), BoxError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, i32::try_from(partition)?, Offset::Offset(i64::try_from(first.major)?))?;
    let done = admin(&url)?.delete_records(&list, &AdminOptions::new()).await?;
    done.elements().iter().try_for_each(|element| element.error().map_err(BoxError::from))
}
