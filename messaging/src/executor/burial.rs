//! [`Burial`]: writes dead letters, smaller and smaller where the broker refuses, and waits for the confirm.

use std::sync::Arc;

use crate::{
    consumer::{DeadLetterSink, PartitionHandle},
    dead_letter::{DeadLetter, Shape},
    error::{Error, ErrorKind},
    message::Message,
    publish::Front,
};

/// Where a group's dead letters go.
#[derive(Clone)]
pub(super) struct Burial {
    pub(super) front: Arc<Front>,
    /// The backend's own way, which settles in the same fenced step.
    pub(super) sink: Option<Arc<dyn DeadLetterSink>>,
}

/// Why a dead letter was not written.
#[derive(Debug)]
pub(super) enum Unburied {
    /// Try again.
    Later(Error),
    /// Refused in every shape.
    Refused(Error),
}

impl Burial {
    /// Writes the letter. It may stand twice if the answer of an earlier try was lost.
    pub(super) async fn bury(
        &self,
        handle: u32,
        mut letter: DeadLetter,
        original: &Message,
    ) -> Result<Shape, Unburied> {
        let mut refusal = None;
        for shape in Shape::ALL {
            letter.shape = shape;
            match self.write(handle, &letter, Arc::new(letter.write(original))).await {
                Ok(()) => return Ok(shape),
                Err(error) if error.kind() == ErrorKind::Rejected => refusal = Some(error),
                Err(error) => return Err(Unburied::Later(error)),
            }
        }
        let refusal = refusal.unwrap_or_else(|| Error::new(ErrorKind::Internal, "no shape was tried"));
        Err(Unburied::Refused(refusal))
    }

    async fn write(&self, handle: u32, letter: &DeadLetter, message: Arc<Message>) -> Result<(), Error> {
        match &self.sink {
            Some(sink) => sink.dead_letter(PartitionHandle(handle), letter.epoch, letter.position, message).await,
            None => self.front.publish_letter(message).await.confirmed().map(drop),
        }
    }
}
