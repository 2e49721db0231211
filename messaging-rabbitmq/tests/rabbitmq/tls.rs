//! TLS: the server's certificate is checked, ours is shown.

use messaging::{Backend as _, ErrorKind};
use messaging_rabbitmq::RabbitMqBackend;
use test_brokers::{RabbitMq, or_skip};

use crate::given::{Diary, SOON, connect, member, name, numbered, show_logs, topic};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_trusted_by_its_authority_and_shown_a_certificate() {
    show_logs();
    let Some(rabbitmq) = or_skip(RabbitMq::options().tls().start().await) else { return };
    let (port, certificates) = rabbitmq.tls().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let texts = [
        ("authority.pem", certificates.authority()),
        ("client.pem", certificates.client_certificate()),
        ("key.pem", certificates.client_key()),
    ];
    let [authority, certificate, key] = texts.map(|(name, text)| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    });
    let url = format!("amqps://guest:guest@localhost:{port}");
    let shown = format!("cert_file={certificate}&private_key_file={key}");
    for (options, kind, named) in [
        // By the usual authorities the server is nobody, and to the server nobody is who shows nothing.
        (shown.clone(), ErrorKind::Unavailable, "connecting"),
        (format!("ca_file={authority}"), ErrorKind::Unavailable, "connecting"),
        (format!("ca_file=/nowhere.pem&{shown}"), ErrorKind::Config, "ca_file"),
        (format!("ca_file={authority}&cert_file={certificate}"), ErrorKind::Config, "private_key_file"),
    ] {
        let refused = RabbitMqBackend.connect(&format!("{url}?{options}").parse().unwrap()).await;
        let error = refused.map(drop).unwrap_err();
        assert_eq!(error.kind(), kind, "{options}: {error:?}");
        assert!(error.to_string().contains(named), "{error}");
    }
    let messaging = connect(&format!("{url}?ca_file={authority}&{shown}")).await;
    let (topic, diary) = (topic(&messaging, 2).await, Diary::default());
    let running = member(&messaging, &diary, "it", &name("group"), &topic).await;
    for outcome in messaging.publish_messages((0..50).map(|number| numbered(&topic, "key", number)).collect()).await {
        outcome.confirmed().unwrap();
    }
    diary.until("all are handled", SOON, |seen| seen.len() == 50).await;
    running.shutdown(SOON).await.unwrap();
    messaging.close(SOON).await.unwrap();
}
