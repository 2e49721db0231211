//! PostgreSQL: data, processes outside its process group, settings.

use std::io::Write as _;
use std::time::Duration;

use test_brokers::{Postgres, or_skip};

use crate::wire::{connect, postgres as sql};

#[tokio::test]
async fn what_was_committed_survives_a_kill_on_the_same_port() {
    let Some(postgres) = or_skip(Postgres::start_new().await) else { return };
    let port = postgres.port();
    sql(port, "CREATE TABLE t (word text)");
    sql(port, "INSERT INTO t VALUES ('kept')");
    postgres.kill().await.unwrap();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "a killed server still listens");
    postgres.start().await.unwrap();
    assert!(sql(port, "SELECT word FROM t").contains("kept"));
    postgres.restart().await.unwrap();
    assert!(sql(port, "SELECT word FROM t").contains("kept"));
}

#[tokio::test]
async fn a_pause_freezes_the_backends_too() {
    let Some(postgres) = or_skip(Postgres::start_new().await) else { return };
    // A connection whose backend is up before the pause: it left the server's process group.
    let mut connection = connect(postgres.port());
    let parameters = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    connection.write_all(&(4 + parameters.len() as u32).to_be_bytes()).unwrap();
    connection.write_all(parameters).unwrap();
    let mut buffer = vec![0; 4096];
    while !buffer.ends_with(b"Z\0\0\0\x05I") {
        buffer.resize(4096, 0);
        let length = std::io::Read::read(&mut connection, &mut buffer).unwrap();
        buffer.truncate(length);
    }
    postgres.pause().await.unwrap();
    connection.write_all(b"Q\0\0\0\x0dSELECT 1\0").unwrap();
    connection.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(std::io::Read::read(&mut connection, &mut [0; 64]).is_err(), "a frozen backend answered");
    postgres.resume().await.unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(std::io::Read::read(&mut connection, &mut [0; 64]).unwrap() > 0);
}

#[tokio::test]
async fn settings_reach_the_server() {
    let Some(postgres) = or_skip(Postgres::options().setting("max_connections", "37").start().await) else { return };
    assert!(sql(postgres.port(), "SHOW max_connections").contains("37"));
}
