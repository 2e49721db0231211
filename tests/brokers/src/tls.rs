//! Certificates for a TLS listener: an authority, a server and a client, made afresh and never stored outside a test.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::error::Error;

/// The file with the server's key and certificates.
pub(crate) const SERVER_FILE: &str = "server.pem";
/// The file with the authority's certificate.
pub(crate) const AUTHORITY_FILE: &str = "authority.pem";

/// What both ends of a TLS connection need, as PEM. The server is `localhost` and 127.0.0.1.
#[derive(Clone)]
pub struct Certificates {
    authority: String,
    server: Identity,
    client: Identity,
}

/// A certificate with its key.
#[derive(Clone)]
struct Identity {
    certificate: String,
    key: String,
}

impl Certificates {
    /// A new authority with a server and a client.
    ///
    /// # Errors
    /// If the cryptography library refuses.
    pub fn generate() -> Result<Self, Error> {
        Self::try_generate().map_err(|error| Error::Certificate(error.to_string()))
    }

    fn try_generate() -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let server = Identity::issue(&issuer, "localhost", names, ExtendedKeyUsagePurpose::ServerAuth)?;
        let client = Identity::issue(&issuer, "test-client", Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(Self { authority, server, client })
    }

    /// The authority's certificate, which both ends trust.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The server's certificate.
    #[must_use]
    pub fn server_certificate(&self) -> &str {
        &self.server.certificate
    }

    /// The server's private key (PKCS #8).
    #[must_use]
    pub fn server_key(&self) -> &str {
        &self.server.key
    }

    /// The client's certificate, for servers that ask for one.
    #[must_use]
    pub fn client_certificate(&self) -> &str {
        &self.client.certificate
    }

    /// The client's private key (PKCS #8).
    #[must_use]
    pub fn client_key(&self) -> &str {
        &self.client.key
    }

    /// Writes what a server reads: its key with its certificates in one file, and the authority in another.
    pub(crate) fn write_server_files(&self, folder: &Path) -> Result<(), Error> {
        let server = format!("{}{}{}", self.server.key, self.server.certificate, self.authority);
        for (name, text) in [(SERVER_FILE, &server), (AUTHORITY_FILE, &self.authority)] {
            std::fs::write(folder.join(name), text).map_err(Error::io(format!("writing {name}")))?;
        }
        Ok(())
    }
}

impl Identity {
    fn issue(
        issuer: &Issuer<'_, KeyPair>,
        name: &str,
        names: Vec<String>,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer)?.pem();
        Ok(Self { certificate, key: key.serialize_pem() })
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}
