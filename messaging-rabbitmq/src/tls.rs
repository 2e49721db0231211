//! TLS by rustls with the ring provider: which certificates are trusted, and which one is shown.

use std::fs;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use messaging::Error;

use crate::config::{Tls, wrong};

pub(crate) fn client(tls: &Tls) -> Result<OwnedTLSConfig, Error> {
    let identity = match (&tls.cert_file, &tls.private_key_file) {
        (Some(cert), Some(key)) => {
            Some(OwnedIdentity::PKCS8 { pem: read("cert_file", cert)?, key: read("private_key_file", key)? })
        }
        (None, None) => None,
        _ => return Err(wrong("options \"cert_file\" and \"private_key_file\" belong together")),
    };
    let not_text = |error| wrong("option \"ca_file\": it is no PEM").with_source(error);
    let cert_chain = match &tls.ca_file {
        Some(file) => Some(String::from_utf8(read("ca_file", file)?).map_err(not_text)?),
        None => None,
    };
    Ok(OwnedTLSConfig { identity, cert_chain })
}

fn read(option: &str, file: &str) -> Result<Vec<u8>, Error> {
    fs::read(file).map_err(|error| wrong(format!("option {option:?}: {file:?} cannot be read: {error}")))
}
