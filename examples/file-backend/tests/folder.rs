//! A folder outlives those who have it open.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use file_backend::FileBackend;
use messaging::{Error, ErrorKind, Json, Message, Messaging, MessagingConfig, Position, Router, configure_messaging};
use tokio::sync::mpsc;

const DEADLINE: Duration = Duration::from_secs(10);

async fn open(folder: &Path) -> Result<Messaging, Error> {
    let config = MessagingConfig::from_url(&format!("file://{}", folder.display()))?;
    configure_messaging(&config, vec![Box::new(FileBackend)]).await
}

fn order(number: u32) -> Message {
    Message::new("orders", number.to_string()).with_key("customer")
}

#[tokio::test]
async fn a_group_goes_on_where_it_stopped_in_an_earlier_life() {
    let folder = tempfile::tempdir().unwrap();
    for life in 1..=3 {
        let messaging = open(folder.path()).await.unwrap();
        let (sender, mut handled) = mpsc::unbounded_channel();
        let router = Router::new("readers").on_message("orders", move |Json(number): Json<u32>| {
            sender.send(number).unwrap();
            async {}
        });
        let running = messaging.run_one(router).await.unwrap();
        messaging.publish_raw(order(life)).await.unwrap();
        assert_eq!(tokio::time::timeout(DEADLINE, handled.recv()).await.unwrap(), Some(life));
        running.shutdown(DEADLINE).await.unwrap();
        messaging.close(DEADLINE).await.unwrap();
        assert_eq!(handled.recv().await, None, "something was handled again");
    }
}

#[tokio::test]
async fn a_record_that_was_never_finished_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let partition = {
        let messaging = open(folder.path()).await.unwrap();
        messaging.publish_raw(order(1)).await.unwrap().partition
    };
    let path = folder.path().join(format!("orders/{partition}.log"));
    let whole = fs::metadata(&path).unwrap().len();
    File::options().write(true).open(&path).unwrap().write_all_at(&[99, 0, 0, 0, 1, 2], whole).unwrap();

    let messaging = open(folder.path()).await.unwrap();
    assert_eq!(messaging.publish_raw(order(2)).await.unwrap().position, Some(Position::new(1)));
    let found = messaging.broker().admin().browse("orders", partition, Position::default(), 10).await.unwrap();
    let payloads: Vec<_> = found.iter().map(|delivery| &delivery.message.payload[..]).collect();
    assert_eq!(payloads, [b"1", b"2"]);
}

#[tokio::test]
async fn one_at_a_time_has_a_folder_open() {
    let folder = tempfile::tempdir().unwrap();
    let messaging = open(folder.path()).await.unwrap();
    let error = open(folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    drop(messaging);
    open(folder.path()).await.unwrap();
}
