//! Ten members killed one after the other on a real Apache Kafka while messages come in: none is lost, and each one's
//! work goes on soon.

use std::process::ExitCode;

use messaging_kafka::KafkaBackend;

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    messaging_conformance::deaths(conformance_brokers::kafka(KafkaBackend).build())
}
