//! Connections as leases name them, and the end of those that may still act for somebody who is no owner any more.

use redis::{Pipeline, RedisResult, Value};

use super::Keeper;
use crate::link::ClientId;

impl Keeper {
    /// Ends connections that are lost to us but may live at the server, with a read or a settlement still to come.
    pub(super) async fn end_undead(&mut self) -> RedisResult<()> {
        let undead = self.shared.state.lock().undead.clone();
        self.kill(&undead).await?;
        self.shared.state.lock().undead.retain(|client| !undead.contains(client));
        Ok(())
    }

    /// Ends connections of this run of the server; those of an earlier run have ended with it.
    pub(super) async fn kill(&mut self, clients: &[ClientId]) -> RedisResult<()> {
        let Some(link) = &self.link else { return Ok(()) };
        let (own, reader) = (link.client.clone(), self.shared.state.lock().reader.clone());
        let mut pipe = Pipeline::new();
        let live = |client: &&ClientId| client.run == own.run && **client != own && Some(*client) != reader.as_ref();
        for client in clients.iter().filter(live) {
            pipe.cmd("CLIENT").arg("KILL").arg("ID").arg(client.number);
        }
        for answer in self.ask(&pipe).await? {
            if let Value::ServerError(error) = answer {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// What stands in the leases: the server's run, the reader's number and the keeper's.
    pub(super) fn clients(&self, reader: Option<&ClientId>) -> String {
        let Some(link) = &self.link else { return String::new() };
        let reader = reader.filter(|reader| reader.run == link.client.run).map_or(0, |reader| reader.number);
        format!("{}:{reader}:{}", link.client.run, link.client.number)
    }
}

/// Reads what stands in a lease about earlier owners.
pub(super) fn read_clients(text: &str) -> Vec<ClientId> {
    let mut clients = Vec::new();
    for pair in text.split_whitespace() {
        let mut parts = pair.split(':');
        let Some(run) = parts.next() else { continue };
        let numbers = parts.filter_map(|number| number.parse().ok()).filter(|number| *number != 0);
        clients.extend(numbers.map(|number| ClientId { run: run.into(), number }));
    }
    clients
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_in_a_lease_read_as_they_were_written() {
        let client = |run: &str, number| ClientId { run: run.into(), number };
        assert_eq!(read_clients(" a:0:4 b:5:6"), [client("a", 4), client("b", 5), client("b", 6)]);
        assert_eq!(read_clients(""), []);
    }
}
