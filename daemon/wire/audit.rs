//! Audit log: failed log-ins and refused pushes, one WARN line each, for programs such as fail2ban.
//!
//! The format is documented in `docs/reference/logging.md` and does not change within a major version. The client address is the
//! first field, so that an anchored regular expression matches it before any text that the client sent.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, StatusCode};

use super::error::ApiError;
use crate::access::IdentifyError;

/// The largest length of a path in the log, in bytes.
const MAX_PATH: usize = 256;
/// The largest length of a method in the log, in bytes: a client may invent methods.
const MAX_METHOD: usize = 32;

/// Counters of failed log-ins, which are also logged, and of issued tokens.
#[derive(Debug, Default)]
pub struct LoginCounters {
    wrong: AtomicU64,
    throttled: AtomicU64,
    tokens: AtomicU64,
}

/// Snapshot of [`LoginCounters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginCounts {
    /// Log-ins with a wrong password or an invalid token.
    pub wrong: u64,
    /// Log-ins that the throttle refused before the password was verified.
    pub throttled: u64,
    /// Bearer tokens that were issued.
    pub tokens: u64,
}

impl LoginCounters {
    /// Logs and counts a failed log-in as `user`. An unreadable file of users is logged where it is read, and an
    /// expired token is normal operation: neither is logged here. Returns true if it is one.
    pub fn record_failure(
        &self,
        client: IpAddr,
        via: &'static str,
        user: &str,
        error: &IdentifyError,
    ) -> bool {
        let (reason, counter) = match error {
            IdentifyError::WrongCredentials | IdentifyError::InvalidToken => ("wrong", &self.wrong),
            IdentifyError::Throttled { .. } => ("throttled", &self.throttled),
            // Not a guessed password: the client requests another token, or the daemon failed.
            IdentifyError::ExpiredToken | IdentifyError::Unavailable => return false,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        log::warn!(target: "audit", client:% = client, via = via, reason = reason, user = user; "login failed");
        true
    }

    /// Counts an issued bearer token.
    pub fn record_token(&self) {
        self.tokens.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the counts since the start of the daemon.
    pub fn counts(&self) -> LoginCounts {
        LoginCounts {
            wrong: self.wrong.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
            tokens: self.tokens.load(Ordering::Relaxed),
        }
    }
}

/// Logs a refused push or delete. Responses of normal operation are not logged: a challenge, missing content, a chunk
/// out of order, a body that ends early. Returns true if it wrote a line.
pub fn log_refusal(client: IpAddr, method: &Method, user: &str, repository: &str, error: &ApiError) -> bool {
    let message = match *method {
        Method::POST | Method::PUT | Method::PATCH => "push refused",
        Method::DELETE => "delete refused",
        _ => return false,
    };
    let (status, code, reason) = error.summary();
    if !is_refusal(status) {
        return false;
    }
    log::warn!(
        target: "audit",
        client:% = client, status = status.as_u16(), code = code, user = user, repository = repository,
        reason = reason;
        "{message}"
    );
    true
}

fn is_refusal(status: StatusCode) -> bool {
    let is_normal = matches!(
        status,
        StatusCode::UNAUTHORIZED
            | StatusCode::NOT_FOUND
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::RANGE_NOT_SATISFIABLE
    );
    // A failure of the daemon (500) has its own line, at level ERROR.
    (status.is_client_error() && !is_normal)
        || matches!(status, StatusCode::INSUFFICIENT_STORAGE | StatusCode::SERVICE_UNAVAILABLE)
}

/// Returns a path for the log, truncated to 256 bytes with an ellipsis.
pub fn loggable_path(path: &str) -> String {
    truncated(path, MAX_PATH)
}

/// Returns a method for the log, truncated to 32 bytes with an ellipsis.
pub fn loggable_method(method: &Method) -> String {
    truncated(method.as_str(), MAX_METHOD)
}

fn truncated(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(max)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_truncated_at_a_character_boundary() {
        assert_eq!(loggable_path("/v2/"), "/v2/");
        let exact = "/".repeat(256);
        assert_eq!(loggable_path(&exact), exact);
        assert_eq!(loggable_path(&format!("{exact}x")), format!("{exact}…"));
        let umlauts = format!("/{}", "ä".repeat(200));
        assert_eq!(loggable_path(&umlauts), format!("/{}…", "ä".repeat(127)));
    }

    #[test]
    fn responses_of_normal_operation_are_not_refusals() {
        for (status, refusal) in
            [(400, true), (401, false), (403, true), (404, false), (405, true), (413, true), (416, false)]
        {
            assert_eq!(is_refusal(StatusCode::from_u16(status).unwrap()), refusal, "{status}");
        }
        for (status, refusal) in [(201, false), (307, false), (500, false), (503, true), (507, true)] {
            assert_eq!(is_refusal(StatusCode::from_u16(status).unwrap()), refusal, "{status}");
        }
    }
}
