//! Pauses between attempts.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use ring::rand::{SecureRandom, SystemRandom};

/// Attempts of a request that fails, and of one that the host wants later.
const TRIES: u32 = 3;
const POLITE_TRIES: u32 = 6;
/// The longest pause after a failure; and the first and longest one if the host does not say how long.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// The failures of one request so far.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    refusals: u32,
}

impl Backoff {
    /// Returns the pause after a failed attempt, with full jitter; `None` if it was the last one.
    pub fn after_failure(&mut self) -> Option<Duration> {
        self.failures += 1;
        (self.failures < TRIES).then(|| jittered(Duration::from_secs(1 << self.failures).min(LONGEST_PAUSE)))
    }

    /// Returns the pause after an answer that asks for another attempt; `None` if the answer counts.
    pub fn after_answer(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Option<Duration> {
        match status {
            // A host that only says that it is overloaded, or has no backend, is a failure like others.
            StatusCode::SERVICE_UNAVAILABLE if retry_after(headers, now).is_none() => self.after_failure(),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                self.refusals += 1;
                let own = FIRST_WAIT.saturating_mul(1 << (self.refusals - 1).min(5)).min(LONGEST_WAIT);
                let wait = retry_after(headers, now).unwrap_or(own);
                (self.refusals < POLITE_TRIES && wait <= LONGEST_WAIT).then_some(wait)
            }
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::GATEWAY_TIMEOUT => self.after_failure(),
            _ => None,
        }
    }
}

/// Returns a part of a pause, so that clients that failed together do not come back together.
fn jittered(most: Duration) -> Duration {
    let mut random = [0; 2];
    // Without random bytes the whole pause is as good.
    if SystemRandom::new().fill(&mut random).is_err() {
        return most;
    }
    most.mul_f64(f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX))
}

/// Returns the time of `Retry-After`, which is in seconds or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn asked(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())])
    }

    #[test]
    fn failures_are_repeated_twice() {
        let mut backoff = Backoff::default();
        for most in [2, 4] {
            assert!(backoff.after_failure().unwrap() <= Duration::from_secs(most));
        }
        assert_eq!(backoff.after_failure(), None);
        let mut of_server = Backoff::default();
        for status in [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE] {
            assert!(of_server.after_answer(status, &HeaderMap::new(), NOW).is_some());
        }
        assert_eq!(of_server.after_answer(StatusCode::BAD_GATEWAY, &HeaderMap::new(), NOW), None);
        for status in [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::INSUFFICIENT_STORAGE] {
            assert_eq!(Backoff::default().after_answer(status, &HeaderMap::new(), NOW), None);
        }
    }

    #[test]
    fn hosts_say_in_seconds_or_by_a_date_when_to_come_back() {
        let wait = |headers: &HeaderMap| {
            Backoff::default()
                .after_answer(StatusCode::TOO_MANY_REQUESTS, headers, NOW)
                .map(|wait| wait.as_secs())
        };
        assert_eq!(wait(&asked("7")), Some(7));
        assert_eq!(wait(&asked("Thu, 01 Jan 1970 00:01:00 GMT")), Some(60));
        assert_eq!((wait(&asked("soon")), wait(&HeaderMap::new())), (Some(30), Some(30)));
        assert_eq!(wait(&asked("86400")), None);
        let busy = Backoff::default().after_answer(StatusCode::SERVICE_UNAVAILABLE, &asked("40"), NOW);
        assert_eq!(busy, Some(Duration::from_secs(40)));
        let mut patient = Backoff::default();
        let all = std::iter::from_fn(|| {
            patient
                .after_answer(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), NOW)
                .map(|wait| wait.as_secs())
        });
        assert_eq!(all.collect::<Vec<_>>(), [30, 60, 120, 240, 480]);
    }
}
