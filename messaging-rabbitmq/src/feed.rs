//! What happens on one partition's channel: it is opened and consumed, its deliveries come in batches, and it is closed in
//! a way that loses no acknowledgement.

use std::{
    future::ready,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _};
use lapin::{
    Channel,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};
use messaging::{Error, Message, Name, cloudevents::Reader};

use crate::{link::Link, partitions::Place, wire};

/// Messages of one partition that are taken in at once.
const MOST: usize = 256;

/// Opens a channel and consumes a partition's queue on it.
pub(crate) async fn consume(link: &Link, place: &Place) -> Result<(Channel, Quiet), Error> {
    let channel = link.channel().await?;
    let what = format!("consuming {}", place.queue);
    link.answer(&what, channel.basic_qos(place.prefetch, BasicQosOptions::default())).await?;
    let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
    let consuming = channel.basic_consume(place.queue.clone(), tag, options, FieldTable::default());
    let consumer = link.answer(&what, consuming).await?;
    Ok((channel, Quiet(consumer)))
}

/// Closes a channel; whoever is next in line for its queue gets what was not acknowledged.
///
/// The broker hands acknowledgements to a quorum queue by 32 at a time, and forgets those that wait for their turn when
/// the channel closes. If there were any, the queue itself has to answer twice first: after the first answer, everything
/// before it is done and the rest is sent; after the second the broker's channel has seen that. A second consumer in line
/// that goes again is a question of this kind, and is never handed anything: the first one, which has messages, stays in
/// front of it.
pub(crate) async fn close(link: &Link, channel: &Channel, settled: Option<ShortString>) {
    if let Some(queue) = settled
        && let Err(error) = catch_up(link, channel, queue.clone()).await
    {
        tracing::warn!(%queue, error = %error.duplicate(), "some of what was settled last may come again");
    }
    // If it does not answer, the connection is about to be lost, and the channel with it.
    let _ = link.answer("closing a channel", channel.close(200, "OK".into())).await;
}

/// Returns once the queue has done everything that was asked of it before, and the channel has seen what came of that.
pub(crate) async fn catch_up(link: &Link, channel: &Channel, queue: ShortString) -> Result<(), Error> {
    let what = format!("settling {queue}");
    let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
    let consuming = channel.basic_consume(queue, tag, options, FieldTable::default());
    let second = Quiet(link.answer(&what, consuming).await?);
    link.answer(&what, channel.basic_cancel(second.0.tag(), BasicCancelOptions::default())).await
}

/// A consumer that does not cancel itself when it is dropped: its channel is closed instead.
pub(crate) struct Quiet(pub(crate) lapin::Consumer);

impl Drop for Quiet {
    fn drop(&mut self) {
        // The client cancels only consumers that are read as a stream.
        self.0.set_delegate(|_| ready(()));
    }
}

/// The last tag that was taken of a channel: whoever reads the deliveries writes it, whoever acknowledges them reads it.
#[derive(Clone, Default)]
pub(crate) struct LastTag(Arc<AtomicU64>);

impl LastTag {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, tag: u64) {
        self.0.store(tag, Ordering::Relaxed);
    }
}

/// The messages of one partition with their tags, in batches.
pub(crate) struct Deliveries {
    pub(crate) slot: usize,
    pub(crate) generation: u64,
    topic: Name,
    last: LastTag,
    reader: Reader,
    consumer: Quiet,
    /// How many were taken in the last time: the next time it will be about as many.
    usual: usize,
}

pub(crate) struct Taken {
    pub(crate) slot: usize,
    pub(crate) generation: u64,
    pub(crate) messages: Vec<(u64, Arc<Message>)>,
    /// There may be more at once; otherwise whoever has polled is woken when there is.
    pub(crate) more: bool,
    /// The stream has ended, perhaps for a reason: it is not to be polled again, and what came before comes again.
    pub(crate) ended: Option<Option<lapin::Error>>,
}

impl Deliveries {
    pub(crate) fn new(slot: usize, generation: u64, topic: Name, last: LastTag, consumer: Quiet) -> Self {
        Self { slot, generation, topic, last, reader: Reader::default(), consumer, usual: 0 }
    }
}

impl Stream for Deliveries {
    type Item = Taken;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Taken>> {
        let Self { slot, generation, topic, last, reader, consumer: Quiet(stream), usual } = &mut *self;
        let mut messages = Vec::new();
        let (more, ended) = loop {
            match stream.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(delivery))) => {
                    if messages.is_empty() {
                        messages.reserve(*usual);
                    }
                    let message = wire::read(reader, topic, &delivery.properties, delivery.data);
                    messages.push((delivery.delivery_tag, message));
                    if messages.len() < MOST {
                        continue;
                    }
                    break (true, None);
                }
                Poll::Ready(Some(Err(error))) => break (false, Some(Some(error))),
                Poll::Ready(None) => break (false, Some(None)),
                Poll::Pending if messages.is_empty() => return Poll::Pending,
                Poll::Pending => break (false, None),
            }
        };
        *usual = messages.len();
        if let Some((tag, _)) = messages.last() {
            last.set(*tag);
        }
        Poll::Ready(Some(Taken { slot: *slot, generation: *generation, messages, more, ended }))
    }
}
