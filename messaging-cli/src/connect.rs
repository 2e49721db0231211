//! Connecting to the broker that `--url` or the environment names.

use std::{sync::Arc, time::Duration};

use messaging::{Address, Broker, ErrorKind, MessagingConfig};

use crate::failure::{Failure, full_text};

/// How long closing the connections may take.
pub(crate) const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// The address that is asked for; the environment is read as services read it.
pub(crate) fn address(url: Option<&str>) -> Result<Address, Failure> {
    let config = match url {
        Some(url) => MessagingConfig::from_url(url).map_err(|error| format!("--url: {}", full_text(&error))),
        None => MessagingConfig::from_env().map_err(|error| format!("{} (or give --url)", full_text(&error))),
    };
    Ok(config.map_err(Failure::Usage)?.address().clone())
}

/// Connects to a broker that other processes can reach.
pub(crate) async fn to_broker(url: Option<&str>) -> Result<Arc<dyn Broker>, Failure> {
    let address = address(url)?;
    if address.scheme == "memory" {
        return Err(Failure::usage(
            "memory: is a bus inside one process, which no other process can reach, so that this command has nothing to \
             look at; its messages, lag and dead letters are to be had in that process (`Messaging::admin`)",
        ));
    }
    connect(&address).await
}

/// Connects to any broker, also to a bus of this process.
pub(crate) async fn connect(address: &Address) -> Result<Arc<dyn Broker>, Failure> {
    let backends = messaging_backends::backends();
    let scheme = address.scheme.as_str();
    let Some(backend) = backends.iter().find(|backend| backend.schemes().contains(&scheme)) else {
        let known: Vec<&str> = backends.iter().flat_map(|backend| backend.schemes()).copied().collect();
        return Err(Failure::usage(format!("no backend serves {scheme:?}; this command has: {}", known.join(", "))));
    };
    backend.connect(address).await.map_err(|error| {
        let text = format!("{address}: {}", full_text(&error));
        if error.kind() == ErrorKind::Config { Failure::Usage(text) } else { Failure::Failed(text) }
    })
}
