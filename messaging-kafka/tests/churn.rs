//! Members that come, go, die and freeze under load on a real Apache Kafka: for seconds, or for as long as
//! `MESSAGING_CHURN_SECONDS` says.

use std::process::ExitCode;

use messaging_kafka::KafkaBackend;

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    messaging_conformance::churn(conformance_brokers::kafka(KafkaBackend).build())
}
