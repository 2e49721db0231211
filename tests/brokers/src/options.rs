//! What starting any broker has in common.

use std::net::TcpStream;
use std::time::Duration;

use tempfile::TempDir;

use crate::broker::{Broker, not_ours};
use crate::error::Error;
use crate::kind::Kind;
use crate::node::blocking;
use crate::route::resolve;

/// How long a start may take unless the options say otherwise: ample for a machine that also compiles.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(90);

/// The broker that the environment gives, if it gives one and nothing is asked that only an own one could do.
pub(crate) async fn given(kind: Kind, as_it_is: bool) -> Result<Option<Broker>, Error> {
    let Some(address) = kind.given()? else { return Ok(None) };
    if !as_it_is {
        return Err(not_ours(kind, "a broker with settings of its own"));
    }
    let broker = Broker::given(kind, address);
    let hosts = broker.address().hosts().to_vec();
    blocking(move || {
        for (host, port) in hosts {
            let what = format!("{}: connecting to {host}:{port}", kind.variable());
            TcpStream::connect_timeout(&resolve(&host, port)?, Duration::from_secs(10)).map_err(Error::io(what))?;
        }
        Ok(())
    })
    .await?;
    Ok(Some(broker))
}

/// A node's own folder, removed with it.
pub(crate) fn node_folder(kind: Kind) -> Result<TempDir, Error> {
    let prefix = format!("test-{}-", kind.name());
    tempfile::Builder::new().prefix(&prefix).tempdir().map_err(Error::io("creating a folder"))
}
