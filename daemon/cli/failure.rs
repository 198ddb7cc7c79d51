//! The failure of a command.

use crate::config::ConfigError;

/// Exit code of a failed command, and its line on stderr; an invalid configuration has a line for each mistake.
pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) line: String,
}

#[expect(clippy::needless_pass_by_value, reason = "so that both can be given to map_err")]
impl Failure {
    /// Returns a failure with exit code 1.
    pub(super) fn failed(error: impl ToString) -> Self {
        Failure { code: 1, line: error.to_string().replace('\n', " ") }
    }

    /// Returns a failure with exit code 2: wrong usage.
    pub(super) fn misuse(error: impl ToString) -> Self {
        Failure { code: 2, line: error.to_string().replace('\n', " ") }
    }

    /// Returns the failure of an invalid configuration, with each mistake in a line of its own.
    pub(super) fn configuration(error: &ConfigError) -> Self {
        Failure { code: 2, line: error.lines().collect::<Vec<_>>().join("\n") }
    }
}
