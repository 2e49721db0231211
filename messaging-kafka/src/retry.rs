//! [`retry`]: questions to a broker that is not ready to answer yet.

use std::time::{Duration, Instant};

use messaging::Error;

const PAUSE: Duration = Duration::from_millis(50);

/// Asks again while the answer is an error that may pass: a new group's coordinator, or a new topic's leader, takes a
/// moment to be found.
///
/// # Errors
/// The last one, if it does not pass or the time is up.
pub(crate) fn retry<T>(limit: Duration, ask: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    let deadline = Instant::now() + limit;
    loop {
        match ask() {
            Err(error) if error.is_transient() && Instant::now() < deadline => std::thread::sleep(PAUSE),
            answer => return answer,
        }
    }
}
