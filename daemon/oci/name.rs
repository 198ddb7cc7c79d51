//! Repository names (distribution specification, "Pulling manifests").

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The maximum length of a repository name in bytes. Clients limit host and name together to 255.
const MAX_LEN: usize = 255;

/// The reason why a string is not a repository name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNameError {
    /// The name is empty.
    #[error("a repository name must not be empty")]
    Empty,
    /// The name is longer than 255 bytes.
    #[error("a repository name has at most 255 characters")]
    TooLong,
    /// A component is empty or does not match the grammar of the specification.
    #[error(
        "a repository name is made of lower-case letters and digits, with single '.', '_', '__' or '-' \
         between them and '/' between components"
    )]
    Component,
}

/// A repository name such as `team/app`, valid by the grammar of the specification and cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct RepositoryName(Arc<str>);

impl RepositoryName {
    /// Returns the name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepositoryName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ParseNameError::Empty);
        }
        if text.len() > MAX_LEN {
            return Err(ParseNameError::TooLong);
        }
        if text.split('/').all(is_component) {
            Ok(RepositoryName(text.into()))
        } else {
            Err(ParseNameError::Component)
        }
    }
}

/// Matches `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, by hand instead of with a regular expression.
fn is_component(component: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut rest = component.as_bytes();
    loop {
        let word = rest.iter().take_while(|&&byte| alphanumeric(byte)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.iter().take_while(|&&byte| !alphanumeric(byte)).count();
        let valid = match &rest[..separator] {
            b"." | b"_" | b"__" => true,
            dashes => dashes.iter().all(|&byte| byte == b'-'),
        };
        if !valid {
            return false;
        }
        rest = &rest[separator..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for name in ["a", "a/b", "library/hello-world", "a--b", "a__b", "a.b", "0/1/2", "a---b/c_d"] {
            assert!(name.parse::<RepositoryName>().is_ok(), "{name}");
        }
        for name in [
            "", "/", "a/", "/a", "A", "a..b", "a___b", "a_.b", "a-_b", "-a", "a-", "a//b", "..", "a b", "é",
            "a\0",
        ] {
            assert!(name.parse::<RepositoryName>().is_err(), "{name:?}");
        }
        assert!("a".repeat(255).parse::<RepositoryName>().is_ok());
        assert_eq!("a".repeat(256).parse::<RepositoryName>(), Err(ParseNameError::TooLong));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = text.parse::<RepositoryName>();
        }

        #[test]
        fn every_match_of_the_specifications_expression_is_accepted(
            name in "[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}(/[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}){0,3}"
        ) {
            prop_assert!(name.parse::<RepositoryName>().is_ok());
        }
    }
}
