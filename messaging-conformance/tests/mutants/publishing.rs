//! [`MutantPublisher`]: loses, doubles, swaps, confirms early, drops dead letters.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use messaging::{Batch, Error, Message, Messaging, Outcome, Publisher, Receipt, partition_for_key};
use parking_lot::Mutex;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::mutant::Mutation;

/// How large a batch is in which something goes wrong.
const LARGE: usize = 600;
/// Which message of such a batch is lost or doubled.
const UNLUCKY: usize = 300;
/// How long before it is stored a message is confirmed.
const EARLY: Duration = Duration::from_millis(100);

pub(crate) struct MutantPublisher {
    inner: Arc<dyn Publisher>,
    mutation: Mutation,
    queue: Mutex<Option<mpsc::UnboundedSender<Batch>>>,
    sending: Mutex<Option<JoinHandle<()>>>,
}

impl MutantPublisher {
    pub(crate) fn new(inner: Arc<dyn Publisher>, mutation: Mutation, messaging: Messaging) -> Self {
        let (sender, mut batches) = mpsc::unbounded_channel::<Batch>();
        let hand = Hand { mutation, messaging };
        let sending = tokio::spawn(async move {
            while let Some(batch) = batches.recv().await {
                hand.send(batch).await;
            }
        });
        Self { inner, mutation, queue: Mutex::new(Some(sender)), sending: Mutex::new(Some(sending)) }
    }

    /// Whether batches go another way than they should.
    fn interferes(&self, batch: &Batch) -> bool {
        match self.mutation {
            Mutation::SettlesEarly | Mutation::IgnoresRevoke | Mutation::StartsLate => false,
            Mutation::DropsDeadLetter => batch.message(0).topic.ends_with(".dlq"),
            _ => !batch.until_settled(),
        }
    }
}

#[async_trait]
impl Publisher for MutantPublisher {
    fn send(&self, batch: Batch) {
        if !self.interferes(&batch) {
            return self.inner.send(batch);
        }
        if let Some(queue) = &*self.queue.lock() {
            // What nobody takes is answered as unknown.
            let _ = queue.send(batch);
        }
    }

    /// What comes meanwhile is one batch, so that the same ones are large in every run.
    fn depth(&self) -> usize {
        1
    }

    async fn close(&self, deadline: Duration) -> Result<(), Error> {
        self.queue.lock().take();
        let sending = self.sending.lock().take();
        if let Some(sending) = sending {
            sending.await.unwrap();
        }
        self.inner.close(deadline).await
    }
}

/// What sends batches, one after the other.
struct Hand {
    mutation: Mutation,
    messaging: Messaging,
}

impl Hand {
    async fn send(&self, mut batch: Batch) {
        let mut messages: Vec<(usize, Arc<Message>)> =
            (0..batch.len()).map(|index| (index, batch.message(index).clone())).collect();
        match self.mutation {
            Mutation::LosesOne if batch.len() >= LARGE => {
                let (index, message) = messages.remove(UNLUCKY);
                batch.complete(index, Outcome::Confirmed(self.lie(&message).await));
            }
            Mutation::Doubles if batch.len() >= LARGE => {
                let (_, message) = messages[UNLUCKY].clone();
                // Its second place is nobody's to know.
                messages.insert(UNLUCKY + 1, (usize::MAX, message));
            }
            Mutation::SwapsTwo if batch.len() >= LARGE => swap(&mut messages),
            Mutation::ConfirmsEarly => {
                for (index, message) in &messages {
                    let receipt = self.lie(message).await;
                    batch.complete(*index, Outcome::Confirmed(receipt));
                }
                tokio::time::sleep(EARLY).await;
            }
            Mutation::DropsDeadLetter => {
                for (index, _) in messages.drain(..) {
                    batch.complete(index, Outcome::Confirmed(Receipt::new(0, None)));
                }
            }
            _ => {}
        }
        let (indices, messages): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
        for (index, outcome) in indices.into_iter().zip(self.messaging.publish_messages(messages).await) {
            if index < batch.len() {
                batch.complete(index, outcome);
            }
        }
    }

    /// A receipt for what is not stored.
    async fn lie(&self, message: &Message) -> Receipt {
        let partitions =
            self.messaging.admin().describe(&message.topic).await.unwrap().map_or(1, |info| info.partitions);
        Receipt::new(message.key.as_ref().map_or(0, |key| partition_for_key(key, partitions)), None)
    }
}

fn swap(messages: &mut [(usize, Arc<Message>)]) {
    let key = |index: usize| messages[index].1.key.clone();
    let pair = (0..messages.len()).find_map(|first| {
        let second = (first + 1..messages.len()).find(|second| key(first).is_some() && key(*second) == key(first))?;
        Some((first, second))
    });
    if let Some((first, second)) = pair {
        messages.swap(first, second);
    }
}
