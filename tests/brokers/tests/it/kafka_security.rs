//! Kafka's listeners with encryption and passwords.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use test_brokers::{Certificates, Error, Kafka, Listener, or_skip};

use crate::wire::{connect, kafka, string};

const SASL_HANDSHAKE: i16 = 17;
const API_VERSIONS: i16 = 18;
const SASL_AUTHENTICATE: i16 = 36;

type Tls = StreamOwned<ClientConnection, std::net::TcpStream>;

fn port(kafka: &Kafka, listener: Listener) -> u16 {
    let (_, port) = kafka.listener(listener).unwrap().rsplit_once(':').unwrap();
    port.parse().unwrap()
}

fn tls(port: u16, certificates: &Certificates, with_own: bool) -> Tls {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificates.authority().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    let config = if with_own {
        let certificate = CertificateDer::from_pem_slice(certificates.client_certificate().as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(certificates.client_key().as_bytes()).unwrap();
        config.with_client_auth_cert(vec![certificate], key).unwrap()
    } else {
        config.with_no_client_auth()
    };
    let name = ServerName::try_from("127.0.0.1").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), connect(port))
}

/// Kafka's error code for the mechanism, then for the first message.
fn authenticate<S: std::io::Read + std::io::Write>(stream: &mut S, mechanism: &str, message: &[u8]) -> (i16, i16) {
    let mut body = Vec::new();
    string(&mut body, mechanism);
    let offered = kafka(stream, SASL_HANDSHAKE, 1, &body);
    let mut body = (message.len() as i32).to_be_bytes().to_vec();
    body.extend(message);
    let answer = kafka(stream, SASL_AUTHENTICATE, 0, &body);
    (i16::from_be_bytes([offered[0], offered[1]]), i16::from_be_bytes([answer[0], answer[1]]))
}

#[tokio::test]
async fn encrypted_listeners_and_passwords_work_and_wrong_ones_do_not() {
    let options = Kafka::options().listener(Listener::Tls).listener(Listener::Sasl).listener(Listener::SaslTls);
    let Some(broker) = or_skip(options.user("alice", "sesame-1").start().await) else { return };
    let certificates = broker.certificates().unwrap();

    let mut encrypted = tls(port(&broker, Listener::Tls), certificates, false);
    assert_eq!(kafka(&mut encrypted, API_VERSIONS, 0, &[])[..2], [0, 0]);
    let mut stranger = tls(port(&broker, Listener::Tls), &Certificates::generate().unwrap(), false);
    assert!(std::io::Write::write_all(&mut stranger, b"x").is_err(), "another authority's certificate was trusted");

    const FAILED: i16 = 58;
    let sasl = port(&broker, Listener::Sasl);
    assert_eq!(authenticate(&mut connect(sasl), "PLAIN", b"\0alice\0sesame-1"), (0, 0));
    assert_eq!(authenticate(&mut connect(sasl), "PLAIN", b"\0alice\0wrong").1, FAILED);
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        // The server knows the user if it answers the first message of the exchange.
        assert_eq!(authenticate(&mut connect(sasl), mechanism, b"n,,n=alice,r=nonce"), (0, 0));
        assert_eq!(authenticate(&mut connect(sasl), mechanism, b"n,,n=bob,r=nonce").1, FAILED);
    }
    let mut both = tls(port(&broker, Listener::SaslTls), certificates, false);
    assert_eq!(authenticate(&mut both, "PLAIN", b"\0alice\0sesame-1"), (0, 0));
}

#[tokio::test]
async fn client_certificates_can_be_required() {
    let options = Kafka::options().listener(Listener::Tls).client_certificates();
    let Some(broker) = or_skip(options.start().await) else { return };
    let certificates = broker.certificates().unwrap();
    let port = port(&broker, Listener::Tls);
    let mut known = tls(port, certificates, true);
    assert_eq!(kafka(&mut known, API_VERSIONS, 0, &[])[..2], [0, 0]);
    let mut unknown = tls(port, certificates, false);
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| kafka(&mut unknown, API_VERSIONS, 0, &[])));
    assert!(refused.is_err(), "a client without a certificate was let in");
}

#[tokio::test]
async fn odd_passwords_are_refused_by_name() {
    let started = Kafka::options().listener(Listener::Sasl).user("al ice", "x").start().await;
    let error = started.unwrap_err();
    assert!(matches!(error, Error::Setting { .. } | Error::Missing { .. }), "{error}");
}
