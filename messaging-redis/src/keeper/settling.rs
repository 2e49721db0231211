//! Settling what the executor has finished, and balancing the books of what was lost.

use std::sync::Arc;

use redis::{Pipeline, RedisResult, Value};

use super::{CHUNK, Keeper};
use crate::{assignment::Assignment, entry, ledger::Lost, scripts, shared::Event};

/// So many ids fit into one call: Lua passes arguments on its stack.
const IDS: usize = 1_000;

impl Keeper {
    /// Tells the server what is settled, many at a time, each partition under its lease.
    pub(super) async fn settle(&mut self) -> RedisResult<()> {
        if self.shared.to_settle() == 0 {
            return Ok(());
        }
        let owned = self.shared.state.lock().owned.clone();
        let mut id = String::new();
        for chunk in owned.chunks(CHUNK) {
            let mut pipe = Pipeline::with_capacity(chunk.len());
            let mut taken: Vec<(&Arc<Assignment>, Vec<messaging::Position>, usize)> = Vec::new();
            for assignment in chunk {
                let positions = assignment.take_settled();
                if positions.is_empty() {
                    continue;
                }
                for ids in positions.chunks(IDS) {
                    let cmd = pipe.add_command(scripts::SETTLE.call(&[&assignment.lease, &*assignment.stream]));
                    cmd.arg(&self.shared.id).arg(assignment.epoch).arg(self.shared.group.as_str());
                    for position in ids {
                        entry::write_id(*position, &mut id);
                        cmd.arg(id.as_str());
                    }
                }
                let commands = positions.len().div_ceil(IDS);
                taken.push((assignment, positions, commands));
            }
            let answers = match self.ask(&pipe).await {
                Ok(answers) => answers,
                Err(error) => {
                    // Some may be settled already, which does no harm.
                    taken.into_iter().for_each(|(assignment, positions, _)| assignment.settle_again(positions));
                    return Err(error);
                }
            };
            let mut answers = answers.into_iter();
            let mut refused = None;
            for (assignment, positions, commands) in taken {
                let answers: Vec<Value> = answers.by_ref().take(commands).collect();
                let error = answers.iter().find(|answer| matches!(answer, Value::ServerError(_)));
                if answers.contains(&Value::Nil) {
                    self.shared.settled(positions.len());
                    self.lose(assignment, "its lease is another's");
                } else if let Some(Value::ServerError(error)) = error {
                    refused = Some(error.clone());
                    assignment.settle_again(positions);
                } else {
                    self.shared.settled(positions.len());
                    assignment.acknowledged(positions);
                }
            }
            if let Some(error) = refused {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Reports what was trimmed or deleted before it was read.
    pub(super) fn balance(&self) {
        let owned = self.shared.state.lock().owned.clone();
        for assignment in owned {
            let (lost, is_long) = {
                let mut cursor = assignment.cursor.lock();
                (cursor.ledger.balance(), cursor.ledger.is_long())
            };
            if is_long {
                self.shared.state.lock().look_now = true;
            }
            if let Some(Lost { first, count }) = lost {
                let (topic, partition) = (assignment.topic.name.clone(), assignment.partition);
                self.shared.tell(Event::Trimmed { topic, partition, first, count: Some(count) });
            }
        }
    }
}
