//! What a refusal or error of the producer says about a message: surely not stored, or nobody knows.

use std::time::Duration;

use messaging::{Error, ErrorKind, Outcome};
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

/// How long the client waits before it sends a message again, at least four fifths of this.
pub(crate) const RETRY_BACKOFF: Duration = Duration::from_millis(500);
/// Below this age a message cannot have been sent twice.
const SENT_ONCE: Duration = Duration::from_millis(400);
/// The client's own limit lies above what a broker is likely to take, so that the broker decides.
pub(crate) const LOCAL_MAX_BYTES: usize = 64 << 20;

/// The outcome of a message that the client did not take: it never left this process.
pub(crate) fn refused_locally(topic: &str, error: &KafkaError) -> Outcome {
    let reason = format!("topic {topic:?}: the message was not sent");
    Outcome::Rejected(Error::new(ErrorKind::Rejected, reason).with_source(error.clone()))
}

/// The outcome of a message that ended with an error, this long after it was handed to the client.
pub(crate) fn failed(topic: &str, error: &KafkaError, age: Duration) -> Outcome {
    let surely_not_stored = error.rdkafka_error_code().is_some_and(|code| match code {
        // Never sent: the client found no such partition.
        Code::UnknownPartition | Code::UnknownTopic => true,
        code => excludes_storage(code) && age < SENT_ONCE,
    });
    if surely_not_stored {
        let reason = format!("topic {topic:?}: the broker refused the message");
        Outcome::Rejected(Error::new(ErrorKind::Rejected, reason).with_source(error.clone()))
    } else {
        let reason = format!("topic {topic:?}: the broker's confirm did not come");
        Outcome::Unknown(Error::new(ErrorKind::Unknown, reason).with_source(error.clone()))
    }
}

/// Whether the broker gives this answer only before it has stored anything. After a retry it proves nothing: the first
/// try may have been stored and its answer lost.
fn excludes_storage(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::InvalidMessageSize
            | Code::MessageBatchTooLarge
            | Code::InvalidTopic
            | Code::InvalidTimestamp
            | Code::InvalidRecord
            | Code::InvalidRequiredAcks
            | Code::UnsupportedForMessageFormat
            | Code::PolicyViolation
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(code: Code, millis: u64) -> Outcome {
        failed("t", &KafkaError::MessageProduction(code), Duration::from_millis(millis))
    }

    #[test]
    fn a_refusal_is_sure_only_before_any_retry() {
        assert!(matches!(outcome(Code::MessageSizeTooLarge, 5), Outcome::Rejected(_)));
        assert!(matches!(outcome(Code::MessageSizeTooLarge, 450), Outcome::Unknown(_)));
        assert!(matches!(outcome(Code::UnknownPartition, 20_000), Outcome::Rejected(_)));
    }

    #[test]
    fn whatever_may_have_been_stored_is_unknown() {
        for code in [
            Code::MessageTimedOut,
            Code::NotEnoughReplicasAfterAppend,
            Code::NotEnoughReplicas,
            Code::PurgeInflight,
            Code::PurgeQueue,
            Code::RequestTimedOut,
            Code::OutOfOrderSequenceNumber,
            Code::BrokerTransportFailure,
            Code::Fatal,
        ] {
            assert!(matches!(outcome(code, 1), Outcome::Unknown(_)), "{code:?}");
        }
    }
}
