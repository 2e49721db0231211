//! Waiting for what is away: what fails because somebody cannot be reached is tried again, and nothing else.

use std::time::Duration;

use messaging::ErrorKind;
use tokio_util::sync::CancellationToken;

use crate::BoxFuture;
use crate::process::{StartError, with_causes};

/// The longest pause before the second attempt, and before those after many.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// Attempts something until it succeeds; `None` if `stop` is cancelled before. Pauses grow, and are of random length: many
/// processes that wait for one broker do not come back all at once.
///
/// # Errors
/// What trying again cannot mend, at once: a wrong setting, above all.
pub fn patiently<'a, T: Send + 'a>(
    stop: &'a CancellationToken,
    mut attempt: impl FnMut() -> BoxFuture<'a, Result<T, StartError>> + Send + 'a,
) -> BoxFuture<'a, Result<Option<T>, StartError>> {
    let attempts = async move {
        let [mut longest, limit] = PAUSES;
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) if is_passing(&error) => {
                    let pause = longest.mul_f64(fastrand::f64());
                    let reason = with_causes(&error);
                    tracing::warn!(reason, again_in_ms = pause.as_millis(), "waiting for the broker");
                    tokio::time::sleep(pause).await;
                    longest = (longest * 2).min(limit);
                }
                Err(error) => return Err(error),
            }
        }
    };
    Box::pin(async move { stop.run_until_cancelled(attempts).await.transpose() })
}

/// Whether an error says that somebody is away, rather than that something is wrong.
fn is_passing(error: &StartError) -> bool {
    let (StartError::Messaging(error) | StartError::Topic { source: error, .. }) = error else { return false };
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use messaging::Error;

    use super::*;

    fn failing(kind: ErrorKind) -> BoxFuture<'static, Result<(), StartError>> {
        Box::pin(async move { Err(Error::new(kind, "no").into()) })
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_away_is_waited_for() {
        let (stop, mut attempts) = (CancellationToken::new(), 0);
        let attempt = || {
            attempts += 1;
            match attempts {
                1 => failing(ErrorKind::Unavailable),
                2 => failing(ErrorKind::Timeout),
                _ => Box::pin(async { Ok(()) }),
            }
        };
        assert_eq!(patiently(&stop, attempt).await.unwrap(), Some(()));
        assert_eq!(attempts, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wrong_is_told_at_once() {
        let (stop, mut attempts) = (CancellationToken::new(), 0);
        for kind in [ErrorKind::Config, ErrorKind::Unsupported, ErrorKind::Rejected, ErrorKind::Internal] {
            let attempt = || {
                attempts += 1;
                failing(kind)
            };
            assert!(patiently(&stop, attempt).await.is_err());
        }
        assert_eq!(attempts, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_waiting() {
        let stop = CancellationToken::new();
        let waiting = patiently(&stop, || failing(ErrorKind::Unavailable));
        let stopping = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            stop.cancel();
        };
        assert_eq!(tokio::join!(waiting, stopping).0.unwrap(), None);
    }
}
