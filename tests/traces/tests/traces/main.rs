//! An order that is posted, its notification and its e-mail are one trace, over two processes, two outboxes and a broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod collector;

use serde_json::{Value, json};
use service_testing::{Answer, Client, Ended, MailServer, Method, Program, StatusCode, TestDatabase, eventually};
use test_brokers::{Redis, or_skip};

use crate::collector::{Collector, Span};

/// What a client traces already.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT: &str = "00f067aa0ba902b7";

struct Programs {
    orders: Program,
    consumer: Program,
    _databases: [TestDatabase; 2],
}

impl Programs {
    async fn start(broker: &str, collector: &Collector, mail: &MailServer) -> Self {
        let databases = [TestDatabase::sqlite().await, TestDatabase::sqlite().await];
        let settings = |database: &TestDatabase| {
            vec![
                ("DATABASE_URL", database.url().to_owned()),
                ("MESSAGING_URL", broker.to_owned()),
                ("LISTEN_ADDR", "127.0.0.1:0".to_owned()),
                ("LOG_FORMAT", "json".to_owned()),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
                ("SMTP_URL", mail.url()),
            ]
        };
        // First who listens.
        let path = env!("CARGO_BIN_EXE_traces-notifications");
        let mut consumer = Program::start(path, &["consumer"], settings(&databases[1]));
        consumer.line_with("serving HTTP").await;
        let orders = Program::start(env!("CARGO_BIN_EXE_traces-orders"), &["api"], settings(&databases[0]));
        Self { orders, consumer, _databases: databases }
    }

    /// Ends both, which sends what they have traced; answers their logs.
    async fn ended(self) -> String {
        let mut logs = String::new();
        for program in [self.orders, self.consumer] {
            program.terminate();
            let Ended { status, log } = program.ended().await;
            assert_eq!(status.code(), Some(0), "{log}");
            logs.push_str(&log);
        }
        logs
    }
}

/// The address in a line of the log, which is JSON.
async fn address(program: &mut Program) -> String {
    let line: Value = serde_json::from_str(&program.line_with("serving HTTP").await).unwrap();
    line["fields"]["address"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_one_trace_from_the_request_to_the_mail_server() {
    let Some(redis) = or_skip(Redis::start_new().await) else { return };
    let (collector, mail) = (Collector::start().await, MailServer::start().await);
    let mut programs = Programs::start(&redis.url(), &collector, &mail).await;

    let orders = Client::new(address(&mut programs.orders).await);
    assert_eq!(orders.get("/health/ready").await.status, StatusCode::OK);
    let order = json!({"user_id": 1, "user_email": "user@example.com", "total": "99.99"});
    let request = orders.request(Method::POST, "/api/v1/orders/").json(&order);
    let placed = Answer::to(request.header("traceparent", format!("00-{TRACE}-{CLIENT}-01"))).await;
    assert_eq!(placed.status, StatusCode::CREATED, "{}", placed.body);
    eventually("the e-mail", async || (mail.mails().len() == 1).then_some(())).await;
    let logs = programs.ended().await;

    let spans = collector.spans();
    let only = |what: &str, is: &dyn Fn(&Span) -> bool| {
        let found: Vec<_> = spans.iter().filter(|span| is(span)).collect();
        assert_eq!(found.len(), 1, "{what} in {spans:#?}");
        found[0].clone()
    };
    let publish = |topic: &'static str| {
        move |span: &Span| span.name == "publish" && span.attribute("messaging.destination.name") == Some(topic)
    };
    let deliver = |group: &'static str| {
        move |span: &Span| span.name == "deliver" && span.attribute("messaging.consumer.group.name") == Some(group)
    };
    let request = only("the request", &|span| span.name == "POST /api/v1/orders");
    let published = only("its event", &publish("order-events"));
    let handled = only("the handler", &deliver("notifications-service"));
    let asked = only("the request for e-mail", &publish("notification-emails"));
    let mailing = only("the mailer", &deliver("notifications-mailer"));
    let smtp = only("the e-mail", &|span| span.name == "smtp send");

    for (span, parent, service) in [
        (&request, CLIENT, "orders-api"),
        (&published, &request.id, "orders-api"),
        (&handled, &request.id, "notifications-consumer"),
        (&asked, &handled.id, "notifications-consumer"),
        (&mailing, &handled.id, "notifications-consumer"),
        (&smtp, &mailing.id, "notifications-consumer"),
    ] {
        assert_eq!((span.trace.as_str(), span.parent.as_str()), (TRACE, parent), "{}", span.name);
        assert_eq!(span.service, service, "{}", span.name);
    }
    assert!(spans.iter().all(|span| !span.name.contains("health")), "{spans:#?}");
    for line in logs.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line["level"].is_string()), "{line}");
    }
}
