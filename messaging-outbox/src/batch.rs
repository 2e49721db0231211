//! [`Tx`] as a batch handler's resource: one transaction for the batch, an inbox row and a savepoint for each message.

use std::future::Future;

use messaging::{Admission, BatchResource, Ending, Error, Finished, FromRef, HandlerError, Resource, ResourceContext};

use crate::{
    database::{self, Sql},
    inbox::{self, Identity},
    outbox::Outbox,
    tx::Tx,
};

impl Tx {
    /// Takes the messages that were not handled out of the inbox.
    async fn forget_failed(&mut self, handled: &[bool]) -> Result<(), HandlerError> {
        static FORGET: Sql =
            Sql::new("DELETE FROM messaging_inbox WHERE consumer_group = $1 AND source = $2 AND event_id = $3");
        let deadline = self.outbox.inner.settings.commit_deadline;
        for (member, _) in std::mem::take(&mut self.members).iter().zip(handled).filter(|(_, handled)| !**handled) {
            // The record of a dead letter was taken over by its replay, which has failed: it is that of a dead letter.
            let sql = if member.is_replay() { &inbox::DEAD_LETTERED } else { &FORGET };
            within(deadline, self.connection().run(sql, member.arguments())).await?;
        }
        Ok(())
    }
}

impl<S> BatchResource<S> for Tx
where
    S: Sync + 'static,
    Outbox: FromRef<S>,
{
    /// Begins the transaction and records the deliveries in it. What was handled before is left out; so is what has
    /// nothing to be recognised by.
    async fn begin_batch(contexts: &[ResourceContext<'_, S>]) -> Result<(Self, Vec<Admission>), HandlerError> {
        let Some(first) = contexts.first() else { return Err(HandlerError::permanent("there is no message")) };
        let outbox = Outbox::from_ref(first.state);
        let broker = outbox.messaging().map_err(HandlerError::infrastructure)?.broker().clone();
        let identify = |context: &ResourceContext<'_, S>| Identity::of(context.delivery, context.group, &*broker);
        begin(outbox, contexts.iter().map(identify).collect()).await
    }

    async fn finish_batch(mut self, handled: &[bool]) -> Finished {
        let failed = handled.iter().filter(|handled| !**handled).count();
        if failed > self.savepoints.taken_back() {
            let rolled_back = Resource::<S>::finish(self, Ending::Failed).await;
            drop(rolled_back);
            return Finished::RolledBack(HandlerError::infrastructure(
                "rolled back with the batch, of which a message failed outside of a savepoint",
            ));
        }
        if let Err(error) = self.forget_failed(handled).await {
            return Finished::RolledBack(error);
        }
        Resource::<S>::finish(self, Ending::Handled).await
    }
}

async fn begin(
    outbox: Outbox,
    identities: Vec<Result<Identity, HandlerError>>,
) -> Result<(Tx, Vec<Admission>), HandlerError> {
    let mut tx = outbox.begin().await.map_err(inbox::infrastructure)?;
    // Two transactions that record the same events do so in the same order: neither waits for the other in a circle.
    let mut order: Vec<usize> = (0..identities.len()).collect();
    order.sort_by_key(|place| identities[*place].as_ref().ok().map(Identity::place));
    let mut recorded = vec![false; identities.len()];
    let deadline = outbox.inner.settings.begin_deadline;
    let recording = async {
        for place in order {
            if let Ok(identity) = &identities[place] {
                recorded[place] = inbox::record(&mut tx, identity).await?;
            }
        }
        Ok(())
    };
    within(deadline, recording).await?;
    let mut admissions = Vec::with_capacity(identities.len());
    for (identity, recorded) in identities.into_iter().zip(recorded) {
        admissions.push(match identity {
            Err(error) => Admission::Refused(error),
            Ok(_) if !recorded => Admission::Duplicate,
            Ok(identity) => {
                tx.members.push(identity);
                Admission::Run
            }
        });
    }
    Ok((tx, admissions))
}

/// A statement of the library's own, within a deadline.
pub(crate) async fn within<T>(
    deadline: std::time::Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, HandlerError> {
    let failed: Error = match tokio::time::timeout(deadline, work).await {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => database::failed("a statement of the outbox", error),
        Err(_) => database::timed_out(deadline),
    };
    Err(if failed.is_transient() { inbox::infrastructure(failed) } else { HandlerError::transient(failed) })
}
