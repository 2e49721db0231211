//! From the client's errors to the library's, by what they mean to a caller.

use messaging::{Error, ErrorKind};
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

/// The broker cannot be reached now, while doing this.
pub(crate) fn unavailable(doing: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("kafka: {doing} failed"))
}

/// An error while doing this.
pub(crate) fn from_kafka(doing: &str, error: KafkaError) -> Error {
    let kind = error.rdkafka_error_code().map_or(ErrorKind::Unavailable, kind_of);
    Error::new(kind, format!("kafka: {doing} failed")).with_source(error)
}

/// An error of making a client: a setting, nearly always.
pub(crate) fn from_creation(error: KafkaError) -> Error {
    match error {
        // The client's own words repeat the value, which may be a secret.
        KafkaError::ClientConfig(_, _, name, _) => {
            Error::new(ErrorKind::Config, format!("kafka: librdkafka refuses the setting {name:?}"))
        }
        other => Error::new(ErrorKind::Config, "kafka: librdkafka refuses its settings").with_source(other),
    }
}

pub(crate) fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::InvalidTopic
        | Code::InvalidReplicationFactor
        | Code::InvalidPartitions
        | Code::InvalidConfig
        | Code::PolicyViolation
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::InvalidArgument => ErrorKind::Config,
        Code::OperationTimedOut | Code::RequestTimedOut => ErrorKind::Timeout,
        Code::Fatal => ErrorKind::Internal,
        _ => ErrorKind::Unavailable,
    }
}
