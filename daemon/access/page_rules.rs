//! The rules of the admin page, in a file of their own in the data directory.
//!
//! The form is that of the configuration, `[[auth.rule]]`, so that a rule can be moved between the two files. Every edit
//! replaces the whole file atomically. A file that cannot be read grants nothing, and takes the default away that users without rules have all rights.

use std::io::{self, Write};
use std::path::Path;

use super::htpasswd::{is_lack_of_resources, read_file};
use super::rules::{Action, Rule};
use super::settings::{RulesFormat, Settings};
use crate::base::{Durability, FileStamp, replace_file};
use crate::oci::{Algorithm, Hasher, Pattern};

/// The most rules of the page. Every decision looks at all of them.
pub(super) const MAX_RULES: usize = 512;
/// The largest file, in bytes.
const LARGEST_FILE: usize = 1 << 20;
/// The mode of the file, which is that of the htpasswd file.
const MODE: u32 = 0o640;

/// A rule of the admin page: one name, one pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRule {
    /// The user; `*` stands for every user who is logged in, `-` for the anonymous user.
    pub name: String,
    /// The pattern of the repositories.
    pub pattern: Pattern,
    /// The actions.
    pub allow: Vec<Action>,
}

impl PageRule {
    pub(super) fn to_rule(&self) -> Rule {
        let (users, repositories) = (vec![self.name.clone()], vec![self.pattern.clone()]);
        Rule { users, repositories, allow: self.allow.clone() }
    }
}

/// The content of one version of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PageRules {
    /// Stamp of the file when it was read.
    pub(super) stamp: Option<FileStamp>,
    pub(super) rules: Vec<PageRule>,
    /// The reason that the file cannot be used.
    pub(super) fault: Option<String>,
}

impl PageRules {
    /// Reads the file; a missing file has no rules, unless `before` had some in this process. On a lack of descriptors or
    /// memory `before` stays in effect.
    pub(super) fn read(settings: &Settings, before: Option<&PageRules>) -> Self {
        Self::read_file(&settings.auth.page_rules, settings.rules_format, before)
    }

    fn read_file(path: &Path, format: RulesFormat, before: Option<&PageRules>) -> Self {
        let stamp = FileStamp::of(path);
        let had_rules = before.is_some_and(|before| !before.rules.is_empty() || before.fault.is_some());
        let read = match read_file(path) {
            Ok(bytes) => parse(format, path, &bytes),
            Err(error) if is_absence(&error) && !had_rules => Ok(Vec::new()),
            Err(error) if is_absence(&error) => {
                Err("it is missing; restore it, or reload the daemon if it was removed on purpose".into())
            }
            Err(error) => match before {
                // The stamp stays the old one, so that the file is read again.
                Some(before) if is_lack_of_resources(&error) => return before.clone(),
                Some(_) | None => Err(error.to_string()),
            },
        };
        match read {
            Ok(rules) => PageRules { stamp, rules, fault: None },
            Err(why) => {
                let why = format!("cannot use the rules of the admin page in {}: {why}", path.display());
                PageRules { stamp, rules: Vec::new(), fault: Some(why) }
            }
        }
    }

    /// Returns a fingerprint of the rules, by which a form recognises that they have changed.
    pub(super) fn state(&self, settings: &Settings) -> String {
        Hasher::digest(Algorithm::Sha256, text(settings, &self.rules).as_bytes()).hex()[..16].to_owned()
    }

    /// Replaces the file. Callers hold the lock of its directory.
    pub(super) fn write(settings: &Settings, rules: &[PageRule]) -> io::Result<()> {
        let text = text(settings, rules);
        replace_file(&settings.auth.page_rules, MODE, Durability::Synced, |file| {
            writeln!(file, "# Rules of the admin page. It writes this file anew with each change.")?;
            file.write_all(text.as_bytes())
        })
    }
}

/// Returns true if the file does not exist. A file in the place of the data directory has an error of its own.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Returns why the rules of the admin page in a file cannot be used.
pub fn page_rules_fault(path: &Path, format: RulesFormat) -> Option<String> {
    PageRules::read_file(path, format, None).fault
}

fn text(settings: &Settings, rules: &[PageRule]) -> String {
    let rules: Vec<Rule> = rules.iter().map(PageRule::to_rule).collect();
    (settings.rules_format.show)(&rules)
}

fn parse(format: RulesFormat, path: &Path, bytes: &[u8]) -> Result<Vec<PageRule>, String> {
    if bytes.len() > LARGEST_FILE {
        return Err("it is larger than 1 MiB".into());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    split((format.parse)(&name, text)?)
}

/// Splits rules into those of one name and one pattern. A rule that would vanish is refused, since it restricts users.
fn split(rules: Vec<Rule>) -> Result<Vec<PageRule>, String> {
    let mut all: Vec<PageRule> = Vec::new();
    for rule in rules {
        if rule.users.is_empty() || rule.repositories.is_empty() {
            return Err("a rule has no users or no repositories".into());
        }
        for name in &rule.users {
            for pattern in &rule.repositories {
                let known = all.iter_mut().find(|one| one.name == *name && one.pattern == *pattern);
                match known {
                    Some(known) => {
                        for action in &rule.allow {
                            if !known.allow.contains(action) {
                                known.allow.push(*action);
                            }
                        }
                    }
                    None => all.push(PageRule {
                        name: name.clone(),
                        pattern: pattern.clone(),
                        allow: rule.allow.clone(),
                    }),
                }
                if all.len() > MAX_RULES {
                    return Err(format!("it has more than {MAX_RULES} pairs of a user and a pattern"));
                }
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::testing::settings;
    use super::*;

    fn write(directory: &Path, text: &str) {
        replace_file(&directory.join("rules.toml"), MODE, Durability::Cached, |file| {
            file.write_all(text.as_bytes())
        })
        .unwrap();
    }

    #[test]
    fn rules_are_split_by_name_and_pattern_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path(), None, false);
        assert_eq!(PageRules::read(&settings, None), PageRules::default());
        write(directory.path(), "a,b x,y pull\na x push,pull\n");
        let rules = PageRules::read(&settings, None);
        let shown: Vec<_> = rules
            .rules
            .iter()
            .map(|one| (one.name.as_str(), one.pattern.to_string(), one.allow.len()))
            .collect();
        let expected = [("a", "x", 2), ("a", "y", 1), ("b", "x", 1), ("b", "y", 1)];
        assert_eq!(shown, expected.map(|(name, pattern, actions)| (name, pattern.to_owned(), actions)));
        PageRules::write(&settings, &rules.rules).unwrap();
        let again = PageRules::read(&settings, None);
        assert_eq!((&again.rules, again.state(&settings)), (&rules.rules, rules.state(&settings)));
        assert_ne!(PageRules::default().state(&settings), rules.state(&settings));
    }

    #[test]
    fn unusable_file_has_a_fault() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path(), None, false);
        let fault = |before| PageRules::read(&settings, before).fault.unwrap();
        for text in ["nonsense", "- x pull\n, y pull", "a , pull", &"#".repeat(LARGEST_FILE + 1)] {
            write(directory.path(), text);
            assert!(fault(None).contains("rules.toml: "), "{text}");
        }
        let many: Vec<String> = (0..=MAX_RULES).map(|number| format!("u{number} x pull\n")).collect();
        write(directory.path(), &many.concat());
        assert!(fault(None).contains("more than 512"));
        write(directory.path(), &many[1..].concat());
        let before = PageRules::read(&settings, None);
        assert_eq!((before.rules.len(), &before.fault), (MAX_RULES, &None));
        // A lost file is no permission.
        write(directory.path(), "");
        #[expect(clippy::disallowed_methods, reason = "the test plays the operator")]
        std::fs::remove_file(directory.path().join("rules.toml")).unwrap();
        assert!(fault(Some(&before)).contains("it is missing"));
        assert_eq!(PageRules::read(&settings, None).fault, None);
    }
}
