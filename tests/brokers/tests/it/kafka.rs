//! Kafka: data, a cluster's quorum, listeners behind proxies.

use std::time::{Duration, Instant};

use test_brokers::{Direction, Error, Faults, Kafka, or_skip};

use crate::wire::{advertised_ports, connect, create_topic, kafka, metadata};

#[tokio::test]
async fn what_was_stored_survives_kill_and_stop_on_the_same_port() {
    let Some(kafka) = or_skip(Kafka::start_new().await) else { return };
    let port = kafka.port();
    assert_eq!(kafka.url(), format!("kafka://127.0.0.1:{port}"));
    assert_eq!(create_topic(port, "kept-topic", 1), 0);
    kafka.kill().await.unwrap();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "a killed broker still listens");
    kafka.start().await.unwrap();
    assert!(metadata(port).contains("kept-topic"));
    kafka.restart().await.unwrap();
    assert!(metadata(port).contains("kept-topic"));
}

#[tokio::test]
async fn a_paused_broker_answers_after_it_resumes() {
    let Some(broker) = or_skip(Kafka::start_new().await) else { return };
    let mut connection = connect(broker.port());
    broker.pause().await.unwrap();
    let asked = Instant::now();
    let answer = std::thread::spawn(move || (kafka(&mut connection, 18, 0, &[]), asked.elapsed()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!answer.is_finished(), "a frozen broker answered");
    broker.resume().await.unwrap();
    let (response, _) = answer.join().unwrap();
    assert_eq!(&response[..2], &[0, 0]);
}

#[tokio::test]
async fn a_cluster_of_three_goes_on_without_one() {
    let Some(kafka) = or_skip(Kafka::options().nodes(3).start().await) else { return };
    let nodes = kafka.nodes().unwrap();
    assert_eq!(nodes.len(), 3);
    let ports: Vec<_> = nodes.iter().map(test_brokers::Node::port).collect();
    assert_eq!(create_topic(ports[1], "replicated", 3), 0);
    nodes[0].kill().await.unwrap();
    assert!(metadata(ports[1]).contains("replicated"));
    nodes[0].start().await.unwrap();
    assert!(metadata(ports[0]).contains("replicated"));
    kafka.restart().await.unwrap();
    assert!(metadata(ports[2]).contains("replicated"));
}

#[tokio::test]
async fn a_route_leads_through_proxies_that_kafka_advertises() {
    let Some(broker) = or_skip(Kafka::options().routes(2).start().await) else { return };
    let route = broker.route().await.unwrap();
    let other = broker.route().await.unwrap();
    let proxy = &route.proxies()[0];
    assert_eq!(route.authority(), format!("127.0.0.1:{}", proxy.port()));
    assert_eq!(advertised_ports(proxy.port()), [proxy.port()]);
    assert_eq!(advertised_ports(broker.port()), [broker.port()]);

    route.set(&Faults::new().stall(Direction::ToClient));
    let mut connection = connect(proxy.port());
    let answer = std::thread::spawn(move || kafka(&mut connection, 18, 0, &[]));
    assert!(proxy.when(Duration::from_secs(10), |traffic| traffic.open == 1).await.is_some());
    assert_eq!(advertised_ports(other.proxies()[0].port()).len(), 1, "the fault reached another route");
    assert!(!answer.is_finished());
    route.heal();
    assert_eq!(&answer.join().unwrap()[..2], &[0, 0]);

    let port = proxy.port();
    drop(route);
    let again = broker.route().await.unwrap();
    assert_eq!(again.proxies()[0].port(), port, "a route that was given back is lent again");
}

#[tokio::test]
async fn properties_reach_the_broker_and_reserved_ones_are_refused() {
    let refused = Kafka::options().property("listeners", "X://:1").start().await;
    if refused.as_ref().is_err_and(Error::is_missing) {
        return;
    }
    assert!(refused.unwrap_err().to_string().contains("listeners"));
    let kafka = Kafka::options().property("default.replication.factor", "2").start().await.unwrap();
    const INVALID_REPLICATION_FACTOR: i16 = 38;
    assert_eq!(create_topic(kafka.port(), "too-many", -1), INVALID_REPLICATION_FACTOR);
}

#[tokio::test]
async fn java_runs_with_kafkas_jars() {
    let Some(kafka) = or_skip(Kafka::shared().await) else { return };
    let output = kafka.java("kafka.tools.StorageTool").unwrap().arg("random-uuid").output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim().len(), 22);
}
