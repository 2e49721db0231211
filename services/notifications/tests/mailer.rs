//! Sending e-mail, to files and to a mail server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use notifications::mailer::{self, MailError};
use notifications::notification::Notification;
use service_kit::Environment;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

fn notification() -> Notification {
    Notification {
        id: 42,
        user_email: "user@example.com".to_owned(),
        subject: "Order Received".to_owned(),
        body: "Your order #7 has been received. Total: $99.99".to_owned(),
        sent_at: None,
        created_at: "2026-01-31T12:00:00Z".parse().unwrap(),
    }
}

/// Takes one e-mail as a mail server does, answering the recipient with `reply`, and returns all that was said to it.
async fn mail_server(reply: &'static str) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let conversation = tokio::spawn(async move {
        let (connection, _) = listener.accept().await.unwrap();
        converse(connection, reply).await
    });
    (url, conversation)
}

async fn converse(mut connection: TcpStream, reply: &str) -> Vec<String> {
    let (read, mut write) = connection.split();
    let mut lines = BufReader::new(read).lines();
    let mut said = Vec::new();
    let mut in_mail = false;
    write.write_all(b"220 test\r\n").await.unwrap();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match line.as_str() {
            "." => "250 accepted",
            _ if in_mail => "",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            line if line.starts_with("RCPT") => reply,
            _ => "250 ok",
        };
        in_mail = (in_mail || line == "DATA") && line != ".";
        if !answer.is_empty() && write.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
            break;
        }
        let ended = line == ".";
        said.push(line);
        if ended {
            break;
        }
    }
    said
}

#[tokio::test]
async fn a_mail_server_gets_the_notification() {
    let (url, server) = mail_server("250 ok").await;
    let settings = [("SMTP_URL", url.as_str()), ("MAIL_FROM", "Shop <shop@example.org>")];
    let mailer = mailer::from_environment(&Environment::fixed(settings)).unwrap();
    mailer.send(&notification()).await.unwrap();
    let said = service_testing::soon("the e-mail", server).await.unwrap();
    for line in [
        "MAIL FROM:<shop@example.org>",
        "RCPT TO:<user@example.com>",
        "From: Shop <shop@example.org>",
        "To: user@example.com",
        "Subject: Order Received",
        "Message-ID: <notification-42@example.org>",
        "Your order #7 has been received. Total: $99.99",
    ] {
        assert!(said.iter().any(|said| said.starts_with(line)), "`{line}` is not in {said:#?}");
    }
}

#[tokio::test]
async fn a_refused_recipient_is_told_from_a_busy_server() {
    for (reply, refused) in
        [("550 no such user", true), ("553 not allowed", true), ("451 try later", false), ("535 who are you", false)]
    {
        let (url, _server) = mail_server(reply).await;
        let mailer = mailer::from_environment(&Environment::fixed([("SMTP_URL", url)])).unwrap();
        let error = mailer.send(&notification()).await.unwrap_err();
        assert_eq!(matches!(error, MailError::Refused(_)), refused, "{reply}: {error}");
    }
}

#[tokio::test]
async fn a_mail_server_that_is_away_is_unavailable() {
    let mailer = mailer::from_environment(&Environment::fixed([("SMTP_URL", "smtp://127.0.0.1:1")])).unwrap();
    let error = mailer.send(&notification()).await.unwrap_err();
    assert!(matches!(error, MailError::Unavailable(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_mail_server_that_says_nothing_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let mailer = mailer::from_environment(&Environment::fixed([("SMTP_URL", url)])).unwrap();
    let start = tokio::time::Instant::now();
    let error = mailer.send(&notification()).await.unwrap_err();
    assert!(matches!(error, MailError::Unavailable(_)), "{error}");
    assert!(start.elapsed() < std::time::Duration::from_secs(30), "longer than a handler may take");
}

#[tokio::test]
async fn a_folder_collects_files() {
    let folder = tempfile::tempdir().unwrap();
    let mails = folder.path().join("outgoing/mail");
    let settings = [("MAIL_DIR", mails.to_str().unwrap())];
    let mailer = mailer::from_environment(&Environment::fixed(settings)).unwrap();
    mailer.send(&notification()).await.unwrap();
    let files: Vec<_> = std::fs::read_dir(&mails).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    let text = std::fs::read_to_string(&files[0]).unwrap();
    assert!(text.contains("Subject: Order Received\r\n"), "{text}");
    assert!(text.contains("From: Notifications <notifications@localhost>\r\n"), "{text}");
}

#[tokio::test]
async fn the_log_takes_everything() {
    let mailer = mailer::from_environment(&Environment::fixed::<String, String>([])).unwrap();
    mailer.send(&notification()).await.unwrap();
}

#[tokio::test]
async fn wrong_settings_are_named_without_secrets() {
    for (name, value) in [
        ("SMTP_URL", "http://user:hunter2@mail"),
        ("SMTP_URL", "smtp://user:hunter2@mail:port"),
        ("SMTP_URL", "smtp://user:hunter2@mail?tls=perhaps"),
        ("MAIL_DIR", "/dev/null/mail"),
        ("MAIL_FROM", "nobody"),
    ] {
        let error = mailer::from_environment(&Environment::fixed([(name, value)])).unwrap_err();
        assert_eq!(error.name(), name);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
