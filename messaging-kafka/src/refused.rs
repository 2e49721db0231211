//! The settings of librdkafka that an address may not pass through, each with the reason: the contract rests on them.

use messaging::Error;

use crate::config::wrong;

/// Names, also by their old spellings, and why.
const REFUSED: &[(&str, &str)] = &[
    ("acks", CONFIRMS),
    ("request.required.acks", CONFIRMS),
    ("enable.idempotence", "without it a retry reorders and doubles messages"),
    ("enable.gapless.guarantee", "a single refused message would stop the publisher"),
    ("transactional.id", "publishing is not transactional"),
    ("partitioner", "the same key goes to the same partition on every backend"),
    ("max.in.flight", "more than five would break the order of retries"),
    ("max.in.flight.requests.per.connection", "more than five would break the order of retries"),
    ("message.send.max.retries", RETRIES),
    ("retries", RETRIES),
    ("retry.backoff.ms", "it tells a refusal at the first attempt from one after a retry"),
    ("message.timeout.ms", DEADLINE),
    ("delivery.timeout.ms", DEADLINE),
    ("message.max.bytes", "the limit is the broker's, less room for a dead letter's headers"),
    ("batch.size", "it follows from what the topics take"),
    ("delivery.report.only.error", "every message is answered"),
    ("enable.auto.commit", PROGRESS),
    ("auto.commit.enable", PROGRESS),
    ("auto.commit.interval.ms", PROGRESS),
    ("enable.auto.offset.store", PROGRESS),
    ("offset.store.method", PROGRESS),
    ("auto.offset.reset", "a group's start is resolved once, and what retention took is reported"),
    ("isolation.level", "messages of an aborted transaction were never published"),
    ("partition.assignment.strategy", "partitions are handed over one by one, cooperatively"),
    ("group.protocol", "the newer protocol does not renew a session by a commit"),
    ("group.remote.assignor", "partitions are handed over one by one, cooperatively"),
    ("group.id", "it is the subscription's"),
    ("session.timeout.ms", "use the option \"session_timeout\", which handlers are gated by"),
    ("heartbeat.interval.ms", "it follows from the option \"session_timeout\""),
    ("max.poll.interval.ms", "the client is polled whatever handlers do; a handler has its own timeout"),
    ("socket.timeout.ms", "it follows from the option \"session_timeout\""),
    ("enable.partition.eof", "the end of a partition is no message"),
    ("bootstrap.servers", "they are the address's hosts"),
    ("metadata.broker.list", "they are the address's hosts"),
    ("allow.auto.create.topics", "use the option \"create_topics\""),
];

const CONFIRMS: &str = "a confirm means that every replica in sync has the message";
const RETRIES: &str = "the publisher tries until its deadline";
const DEADLINE: &str = "it is the publisher's deadline";
const PROGRESS: &str = "only what was handled is committed";

/// Checks the settings that an address passes through.
///
/// # Errors
/// [`ErrorKind::Config`](messaging::ErrorKind::Config), naming the setting and the reason.
pub(crate) fn check_pass_through(settings: &[(String, String)]) -> Result<(), Error> {
    for (name, _) in settings {
        if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| refused == name) {
            return Err(wrong(format!("option \"librdkafka.{name}\" is refused: {reason}")));
        }
    }
    Ok(())
}
