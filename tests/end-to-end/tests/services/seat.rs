//! A place in the system where a program runs, dies, and is started again.

use serde_json::Value;
use service_testing::{Client, Ended, Program, TestDatabase, eventually};
use test_brokers::{Broker, Route};

/// How a program gets to its broker.
pub(crate) enum Way {
    Direct(String),
    /// Through proxies of its own.
    Through(Route),
}

impl Way {
    pub(crate) fn direct(broker: &Broker) -> Self {
        Self::Direct(broker.url())
    }

    pub(crate) async fn through_a_proxy(broker: &Broker) -> Self {
        Self::Through(broker.route().await.unwrap())
    }

    fn url(&self) -> String {
        match self {
            Self::Direct(url) => url.clone(),
            Self::Through(route) => route.url(),
        }
    }
}

/// One place, with the program that has it now.
pub(crate) struct Seat {
    label: &'static str,
    path: &'static str,
    process: &'static str,
    environment: Vec<(&'static str, String)>,
    database: String,
    way: Way,
    starts: usize,
    program: Option<Program>,
    client: Client,
}

impl Seat {
    /// Starts a program and waits until it is ready.
    pub(crate) async fn start(
        label: &'static str,
        (path, process): (&'static str, &'static str),
        database: &TestDatabase,
        way: Way,
        more: Vec<(&'static str, String)>,
    ) -> Self {
        let mut environment = more;
        environment.extend([
            ("LISTEN_ADDR", "127.0.0.1:0".to_owned()),
            ("CREATE_DATABASE", "true".to_owned()),
            ("MESSAGING_URL", way.url()),
        ]);
        let (client, database) = (Client::new("127.0.0.1:0"), database.url().to_owned());
        let mut seat = Self { label, path, process, environment, database, way, starts: 0, program: None, client };
        seat.start_again().await;
        seat
    }

    /// The name under which the database knows the program that has the place now, and no other.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.label, self.starts)
    }

    /// The program's HTTP, at another address after each start.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The way to the broker, of a place that has proxies.
    pub(crate) fn route(&self) -> &Route {
        match &self.way {
            Way::Through(route) => route,
            Way::Direct(_) => panic!("{} has no proxies", self.label),
        }
    }

    /// Ends the program with SIGKILL.
    pub(crate) async fn kill(&mut self) {
        self.program.take().unwrap().killed().await;
    }

    /// Stops the program's clock: SIGSTOP.
    pub(crate) fn freeze(&self) {
        self.program.as_ref().unwrap().freeze();
    }

    /// Lets a frozen program go on.
    pub(crate) fn thaw(&self) {
        self.program.as_ref().unwrap().thaw();
    }

    /// Starts the program once more and waits until it is ready.
    pub(crate) async fn start_again(&mut self) {
        self.serve_again().await;
        self.until_ready().await;
    }

    /// Starts the program once more and waits until it serves, ready or not.
    pub(crate) async fn serve_again(&mut self) {
        self.starts += 1;
        let url = format!("{}?application_name={}", self.database, self.name());
        let environment = self.environment.iter().cloned().chain([("DATABASE_URL", url)]);
        let mut program = Program::start(self.path, &[self.process], environment);
        self.client = Client::new(program.address().await);
        self.program = Some(program);
    }

    /// Waits until the program is ready.
    pub(crate) async fn until_ready(&self) {
        eventually("a service that is ready", async || {
            let Value::String(status) = self.client.get("/health/ready").await.body["status"].take() else {
                return None;
            };
            (status == "ready").then_some(())
        })
        .await;
    }

    /// Waits until the program's log has a line with this text.
    pub(crate) async fn says(&mut self, text: &str) {
        self.program.as_mut().unwrap().line_with(text).await;
    }

    /// Ends the program as an orchestrator does, and checks that it takes it well.
    pub(crate) async fn stop(mut self) {
        let program = self.program.take().unwrap();
        program.terminate();
        let Ended { status, log } = program.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
    }
}
