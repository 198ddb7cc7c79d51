//! The lines of the log that other programs read, such as fail2ban: failed log-ins and refused pushes, one WARN each.
//!
//! Their form is documented in `docs/logging.md` and does not change within a major version. The client comes first, so
//! that an expression that is anchored at the beginning finds it before anything that a client has sent.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, StatusCode};

use super::error::ApiError;
use crate::access::IdentifyError;

/// The longest path that the log shows, in bytes.
const LONGEST_PATH: usize = 256;
/// The longest method that it shows; a client may make one up.
const LONGEST_METHOD: usize = 32;

/// Logs failed log-ins, and counts them and the tokens that were issued.
#[derive(Debug, Default)]
pub struct LoginCounters {
    wrong: AtomicU64,
    throttled: AtomicU64,
    tokens: AtomicU64,
}

/// The numbers of [`LoginCounters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginCounts {
    /// Log-ins with a wrong password or an invalid token.
    pub wrong: u64,
    /// Log-ins that were refused without a look at the password.
    pub throttled: u64,
    /// Bearer tokens that were issued.
    pub tokens: u64,
}

impl LoginCounters {
    /// Logs that a client did not identify itself as the user whom it named. That the users cannot be read is no fault of
    /// the client, and is logged where it happens; tokens end as a matter of course.
    pub fn failed(&self, client: IpAddr, via: &'static str, user: &str, error: &IdentifyError) {
        let (reason, counter) = match error {
            IdentifyError::Wrong | IdentifyError::InvalidToken => ("wrong", &self.wrong),
            IdentifyError::Throttled { .. } => ("throttled", &self.throttled),
            // No guess: the client requests another token.
            IdentifyError::EndedToken | IdentifyError::Unavailable => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        log::warn!(target: "audit", client:% = client, via = via, reason = reason, user = user; "login failed");
    }

    /// Counts a bearer token.
    pub fn token_issued(&self) {
        self.tokens.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the numbers so far.
    pub fn counts(&self) -> LoginCounts {
        LoginCounts {
            wrong: self.wrong.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
            tokens: self.tokens.load(Ordering::Relaxed),
        }
    }
}

/// Logs a push or a delete that the registry refuses. What belongs to the protocol is not refused: a challenge to log in,
/// content that is not there, a chunk that is sent out of order, a body that breaks off.
pub fn refused(client: IpAddr, method: &Method, user: &str, repository: &str, error: &ApiError) {
    let message = match *method {
        Method::POST | Method::PUT | Method::PATCH => "push refused",
        Method::DELETE => "delete refused",
        _ => return,
    };
    let (status, code, reason) = error.summary();
    if !is_refusal(status) {
        return;
    }
    log::warn!(
        target: "audit",
        client:% = client, status = status.as_u16(), code = code, user = user, repository = repository,
        reason = reason.as_str();
        "{message}"
    );
}

fn is_refusal(status: StatusCode) -> bool {
    let is_of_the_protocol = matches!(
        status,
        StatusCode::UNAUTHORIZED
            | StatusCode::NOT_FOUND
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::RANGE_NOT_SATISFIABLE
    );
    // A failure of the registry has a line of its own, as an error.
    (status.is_client_error() && !is_of_the_protocol)
        || matches!(status, StatusCode::INSUFFICIENT_STORAGE | StatusCode::SERVICE_UNAVAILABLE)
}

/// Returns a path as the log shows it: cut at 256 bytes, with an ellipsis.
pub fn shown_path(path: &str) -> String {
    cut(path, LONGEST_PATH)
}

/// Returns a method as the log shows it.
pub fn shown_method(method: &Method) -> String {
    cut(method.as_str(), LONGEST_METHOD)
}

fn cut(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(longest)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cut_at_a_letter() {
        assert_eq!(shown_path("/v2/"), "/v2/");
        let exact = "/".repeat(256);
        assert_eq!(shown_path(&exact), exact);
        assert_eq!(shown_path(&format!("{exact}x")), format!("{exact}…"));
        let umlauts = format!("/{}", "ä".repeat(200));
        assert_eq!(shown_path(&umlauts), format!("/{}…", "ä".repeat(127)));
    }

    #[test]
    fn the_protocol_refuses_nothing() {
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
