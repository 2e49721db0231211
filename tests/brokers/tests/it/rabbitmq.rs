//! RabbitMQ: data, its port mapper, configuration, its control program.

use test_brokers::{RabbitMq, or_skip};

#[tokio::test]
async fn what_was_stored_survives_a_kill_on_the_same_port() {
    let Some(rabbitmq) = or_skip(RabbitMq::start_new().await) else { return };
    let port = rabbitmq.port();
    rabbitmq.control(["add_user", "alice", "secret"]).await.unwrap();
    rabbitmq.kill().await.unwrap();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "a killed node still listens");
    rabbitmq.start().await.unwrap();
    assert!(rabbitmq.control(["list_users"]).await.unwrap().contains("alice"));
    rabbitmq.restart().await.unwrap();
    assert!(rabbitmq.control(["list_users"]).await.unwrap().contains("alice"));
}

#[tokio::test]
async fn configuration_reaches_the_node_and_pause_holds_it() {
    let options = RabbitMq::options().line("heartbeat = 7").line("vm_memory_high_watermark.absolute = 1KB");
    let Some(rabbitmq) = or_skip(options.start().await) else { return };
    let answer = rabbitmq.control(["environment"]).await.unwrap();
    assert!(answer.contains("{heartbeat,7}"), "{answer}");
    let alarms = rabbitmq.control(["eval", "rabbit_alarm:get_alarms()."]).await.unwrap();
    assert!(alarms.contains("memory"), "{alarms}");
    rabbitmq.pause().await.unwrap();
    rabbitmq.resume().await.unwrap();
    assert!(rabbitmq.control(["list_users"]).await.unwrap().contains("guest"));
}
