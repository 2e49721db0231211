//! TLS by rustls with the ring provider: which certificates are trusted, and which one is shown.

use std::fs;

use messaging::Error;
use redis::{Client, ClientTlsConfig, ConnectionInfo, TlsCertificates};

use crate::config::{Tls, wrong};

pub(crate) fn open_client(info: ConnectionInfo, tls: Option<&Tls>) -> Result<Client, Error> {
    let invalid = |error| wrong("the address or a certificate is not valid").with_source(error);
    let Some(tls) = tls else { return Client::open(info).map_err(invalid) };
    // Fails if the program has chosen a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client_tls = match (&tls.cert_file, &tls.private_key_file) {
        (Some(cert), Some(key)) => {
            Some(ClientTlsConfig { client_cert: read("cert_file", cert)?, client_key: read("private_key_file", key)? })
        }
        (None, None) => None,
        _ => return Err(wrong("options \"cert_file\" and \"private_key_file\" belong together")),
    };
    let root_cert = tls.ca_file.as_ref().map(|file| read("ca_file", file)).transpose()?;
    Client::build_with_tls(info, TlsCertificates { client_tls, root_cert }).map_err(invalid)
}

fn read(option: &str, file: &str) -> Result<Vec<u8>, Error> {
    fs::read(file).map_err(|error| wrong(format!("option {option:?}: {file:?} cannot be read: {error}")))
}
