//! librdkafka's log lines and errors, as `tracing` events under the target `librdkafka`.

use rdkafka::{config::RDKafkaLogLevel, error::KafkaError};

const TARGET: &str = "librdkafka";

/// What it is to log at all: everything that its setting `debug` asks for, if somebody listens.
pub(crate) fn level() -> RDKafkaLogLevel {
    if tracing::enabled!(target: TARGET, tracing::Level::DEBUG) {
        RDKafkaLogLevel::Debug
    } else {
        RDKafkaLogLevel::Warning
    }
}

/// One line of its log. It warns of every lost connection, which heals by itself.
pub(crate) fn line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: TARGET, facility, "{message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::warn!(target: TARGET, facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(target: TARGET, facility, "{message}");
        }
    }
}

/// An error that belongs to no message: a broker out of reach, mostly.
pub(crate) fn client_error(error: &KafkaError, reason: &str) {
    tracing::debug!(target: TARGET, %error, "{reason}");
}
