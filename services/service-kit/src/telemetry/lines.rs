//! [`Wanted`]: which events become lines of the log.

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Filter};

/// Asks again at each event that it wants, where `Targets` would be asked once for each place in the code.
///
/// The answer of a layer's filter waits in the thread for the event that it is about. An event that is not asked about
/// takes the answer that it finds: of a client that asks, through `log`, whether a level is enabled, and then logs
/// nothing. Its `no` would swallow a line of ours (<https://github.com/tokio-rs/tracing/issues/2519>).
pub(super) struct Wanted(pub(super) Targets);

impl<S: Subscriber> Filter<S> for Wanted {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        Filter::enabled(&self.0, metadata, context)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        let interest = Filter::<S>::callsite_enabled(&self.0, metadata);
        if interest.is_always() { Interest::sometimes() } else { interest }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::<S>::max_level_hint(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing::dispatcher;
    use tracing_log::AsTrace;
    use tracing_subscriber::prelude::*;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// As `log::log_enabled!` asks it.
    fn is_enabled(target: &str, level: log::Level) -> bool {
        let record = log::Record::builder().target(target).level(level).build();
        dispatcher::get_default(|dispatch| dispatch.enabled(&record.as_trace()))
    }

    #[test]
    fn a_client_that_asks_for_its_level_swallows_no_line() {
        let written = Written::default();
        let writer = written.clone();
        let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let filter = Wanted("warn,service=info".parse().unwrap());
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..3 {
                is_enabled("client", log::Level::Info);
                tracing::info!(target: "service", number, "a line");
                tracing::info!(target: "client", "not wanted");
            }
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        for (number, line) in lines.iter().enumerate() {
            assert!(line.contains("a line") && line.contains(&number.to_string()), "{text}");
        }
    }
}
