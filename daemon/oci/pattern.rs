//! Name patterns of rules.

use std::fmt;

/// A pattern for repositories or tags, in which `*` matches any string, also across `/`. All strings are valid
/// patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Returns true if the whole name matches the pattern.
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == name };
        let Some(mut name) = name.strip_prefix(first) else { return false };
        let mut parts = rest.split('*').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return name.ends_with(part);
            }
            // The leftmost occurrence leaves the most for the parts after it, so that no backtracking is needed.
            let Some(at) = name.find(part) else { return false };
            name = &name[at + part.len()..];
        }
        true
    }
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        Pattern(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_any_string() {
        for (pattern, name, expected) in [
            ("*", "a/b", true),
            ("team/*", "team/app", true),
            ("team/*", "team", false),
            ("*/app", "a/b/app", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("a*a", "a", false),
            ("a", "ab", false),
        ] {
            assert_eq!(Pattern::from(pattern.to_owned()).matches(name), expected, "{pattern} {name}");
        }
    }
}
