//! [`Tx`] as a handler's resource: the inbox. What a group has handled stands there by (group, source, event id), written
//! in the transaction of its effects; what comes again is settled without running the handler.

use messaging::{
    Begun, Broker, Delivery, Ending, Error, FailureKind, Finished, FromRef, HandlerError, Message, Name, Resource,
    ResourceContext, replayed_letter,
};

use crate::{
    database::{self, Ended, Sql},
    outbox::Outbox,
    tx::Tx,
};

/// What makes a message the same as another one for a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    group: Name,
    source: String,
    id: String,
    /// The group is given a dead letter once more.
    replay: bool,
}

impl Identity {
    pub(crate) fn of(delivery: &Delivery, group: &Name, broker: &dyn Broker) -> Result<Self, HandlerError> {
        let (message, partition, position) = (&delivery.message, delivery.partition, delivery.position);
        let (topic, letter) = (&message.topic, replayed_letter(message));
        let told = || {
            let position = message.attributes.get_str(Message::POSITION_ID);
            position.or_else(|| message.headers.get_str(Message::MESSAGE_ID))
        };
        let (source, id) = match (&message.envelope, broker.log(topic), letter) {
            (Some(envelope), _, _) => (envelope.source.to_string(), envelope.id.to_string()),
            // One dead letter is replayed with effect once.
            (None, Some(log), Some(letter)) => (format!("{log}/{topic}"), format!("letter {letter}")),
            (None, Some(log), None) => (format!("{log}/{topic}"), format!("{partition}/{position}")),
            (None, None, _) => {
                let name = broker.name();
                let id = told().ok_or_else(|| {
                    HandlerError::permanent(format!(
                        "a message on topic {topic:?} without an envelope has nothing to be recognised by on `{name}`: a \
                         handler with `Tx` needs events with source and id, or the header `message-id`"
                    ))
                })?;
                (format!("{name}/{topic}"), id.to_owned())
            }
        };
        if source.contains('\0') || id.contains('\0') {
            return Err(HandlerError::permanent("the event's source or id holds the character U+0000"));
        }
        Ok(Self { group: group.clone(), source, id, replay: letter.is_some() })
    }

    /// What it is known by within its group.
    pub(crate) fn place(&self) -> (&str, &str) {
        (&self.source, &self.id)
    }

    pub(crate) fn is_replay(&self) -> bool {
        self.replay
    }

    pub(crate) fn arguments(&self) -> Vec<database::Argument> {
        vec![self.group.as_str().into(), self.source.as_str().into(), self.id.as_str().into()]
    }
}

impl<S> Resource<S> for Tx
where
    S: Sync + 'static,
    Outbox: FromRef<S>,
{
    /// Begins the transaction and records the delivery in it. Another owner that has it open makes this one wait, for the
    /// lock timeout at most.
    async fn begin(context: ResourceContext<'_, S>) -> Result<Begun<Self>, HandlerError> {
        let outbox = Outbox::from_ref(context.state);
        let messaging = outbox.messaging().map_err(HandlerError::infrastructure)?;
        let identity = Identity::of(context.delivery, context.group, &**messaging.broker())?;
        begin(outbox, identity).await
    }

    async fn finish(self, ending: Ending) -> Finished {
        finish(self, ending).await
    }

    /// A database that is locked or away says nothing about the message.
    fn classify(error: HandlerError) -> HandlerError {
        if error.kind() == FailureKind::Transient && database::is_passing(error.source()) {
            HandlerError::infrastructure(error.into_source())
        } else {
            error
        }
    }
}

/// Records a delivery in a transaction. Answers whether it was to be recorded: what was handled before is not.
pub(crate) async fn record(tx: &mut Tx, identity: &Identity) -> Result<bool, sqlx::Error> {
    // A replay takes over the record of its dead letter; nothing takes over that of a handled one.
    static RECORD: Sql = Sql::new(
        "INSERT INTO messaging_inbox AS i (consumer_group, source, event_id, outcome, recorded_at) \
         VALUES ($1, $2, $3, 0, {now}) \
         ON CONFLICT (consumer_group, source, event_id) \
         DO UPDATE SET outcome = 0, recorded_at = excluded.recorded_at WHERE i.outcome = 1 AND $4 = 1 \
         RETURNING outcome",
    );
    let mut arguments = identity.arguments();
    arguments.push(i64::from(identity.replay).into());
    Ok(!tx.connection().run(&RECORD, arguments).await?.is_empty())
}

async fn begin(outbox: Outbox, identity: Identity) -> Result<Begun<Tx>, HandlerError> {
    let mut tx = outbox.begin().await.map_err(HandlerError::infrastructure)?;
    let deadline = outbox.inner.settings.begin_deadline;
    let recorded = match tokio::time::timeout(deadline, record(&mut tx, &identity)).await {
        Ok(Ok(recorded)) => recorded,
        Ok(Err(error)) => return Err(infrastructure(database::failed("recording the delivery", error))),
        Err(_) => return Err(infrastructure(database::timed_out(deadline))),
    };
    if recorded {
        tx.identity = Some(identity);
        return Ok(Begun::Run(tx));
    }
    // What cannot be rolled back now is when the connection ends; nothing was written.
    let _ = tx.rollback().await;
    Ok(Begun::Duplicate)
}

/// Marks the record of a delivery as that of a dead letter.
pub(crate) static DEAD_LETTERED: Sql =
    Sql::new("UPDATE messaging_inbox SET outcome = 1 WHERE consumer_group = $1 AND source = $2 AND event_id = $3");

async fn finish(mut tx: Tx, ending: Ending) -> Finished {
    match ending {
        Ending::Handled => {}
        Ending::Failed => {
            let rolled_back = tx.rollback().await.err().map(infrastructure);
            return Finished::RolledBack(rolled_back.unwrap_or_else(|| HandlerError::transient("rolled back")));
        }
        Ending::Dead => {
            tx.forget_recorded();
            let arguments = tx.identity.as_ref().map(Identity::arguments).unwrap_or_default();
            let deadline = tx.outbox.inner.settings.commit_deadline;
            match tokio::time::timeout(deadline, tx.connection().run(&DEAD_LETTERED, arguments)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    let error = database::failed("recording the dead letter", error);
                    return Finished::RolledBack(infrastructure(error));
                }
                Err(_) => return Finished::RolledBack(infrastructure(database::timed_out(deadline))),
            }
        }
    }
    match tx.end().await {
        Ok(()) => Finished::Committed,
        Err(Ended::Unknown(error)) => Finished::Unknown(infrastructure(error)),
        Err(Ended::RolledBack(error)) if error.is_transient() => Finished::RolledBack(infrastructure(error)),
        Err(Ended::RolledBack(error)) => Finished::RolledBack(HandlerError::transient(error)),
    }
}

pub(crate) fn infrastructure(error: Error) -> HandlerError {
    HandlerError::infrastructure(error)
}
