//! Encryption and authentication, against listeners that insist on them.

use messaging::{ErrorKind, Message, MessagingConfig, configure_messaging};
use messaging_kafka::KafkaBackend;
use test_brokers::{Kafka, Listener};
use tokio::sync::OnceCell;

use crate::given::{Seen, connect, log, publish, stop, unique};

const USER: &str = "shop";
const PASSWORD: &str = "correct-horse_9";

async fn secured() -> &'static Kafka {
    static KAFKA: OnceCell<Kafka> = OnceCell::const_new();
    log();
    let start = || {
        let options = Kafka::options().routes(0).user(USER, PASSWORD);
        options.listener(Listener::Tls).listener(Listener::Sasl).listener(Listener::SaslTls).start()
    };
    KAFKA.get_or_try_init(start).await.unwrap()
}

/// A file with the authority that signed the broker's certificate.
fn authority(kafka: &Kafka) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, kafka.certificates().unwrap().authority()).unwrap();
    file
}

async fn round_trip(url: &str) {
    let messaging = connect(url).await;
    let topic = unique("topic");
    let seen = Seen::new();
    let running = messaging.run_one(seen.quick(&unique("group"), &topic)).await.unwrap();
    publish(&messaging, &topic, 5, 0..4).await;
    seen.until(20).await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls() {
    let kafka = secured().await;
    let ca = authority(kafka);
    let servers = kafka.listener(Listener::Tls).unwrap();
    round_trip(&format!("kafka://{servers}?ca_file={}", ca.path().display())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_password_by_each_mechanism_with_and_without_tls() {
    let kafka = secured().await;
    let ca = authority(kafka);
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let plain = kafka.listener(Listener::Sasl).unwrap();
        round_trip(&format!("kafka://{USER}:{PASSWORD}@{plain}?sasl_mechanism={mechanism}")).await;
        let tls = kafka.listener(Listener::SaslTls).unwrap();
        let ca = ca.path().display();
        round_trip(&format!("kafka://{USER}:{PASSWORD}@{tls}?sasl_mechanism={mechanism}&ca_file={ca}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_or_authority_is_refused_and_not_repeated() {
    let kafka = secured().await;
    let (sasl, tls) = (kafka.listener(Listener::Sasl).unwrap(), kafka.listener(Listener::Tls).unwrap());
    for (url, why) in [
        (format!("kafka://{USER}:hush-hush@{sasl}?connect_timeout=2s"), "user and password are refused"),
        // Signed by nobody this machine trusts.
        (format!("kafka://{tls}?tls=true&connect_timeout=2s"), "a certificate that is not trusted"),
    ] {
        let config = MessagingConfig::from_url(&url).unwrap();
        let error = configure_messaging(&config, vec![Box::new(KafkaBackend)]).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(why), "{error:?}");
        assert!(!format!("{error} {error:?} {config:?}").contains("hush"), "{error:?}");
    }
    // And the plain listener takes no part in this.
    let open = connect(&kafka.url()).await;
    open.publish_raw(Message::new(unique("topic"), "x")).await.unwrap();
}
