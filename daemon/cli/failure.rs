//! The failure of a command.

/// Exit code of a failed command, and its line on stderr.
pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) line: String,
}

#[expect(clippy::needless_pass_by_value, reason = "so that both can be given to map_err")]
impl Failure {
    /// Returns a failure with exit code 1.
    pub(super) fn failed(error: impl ToString) -> Self {
        Failure { code: 1, line: error.to_string() }
    }

    /// Returns a failure with exit code 2: wrong usage, or an invalid configuration.
    pub(super) fn misuse(error: impl ToString) -> Self {
        Failure { code: 2, line: error.to_string() }
    }
}
