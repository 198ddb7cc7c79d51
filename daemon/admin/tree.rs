//! The repositories of a page as the lines of a tree: namespaces that open and close, and repositories between them.

use std::collections::BTreeMap;

use super::format::When;
use super::limits::{NAME, shorten};
use crate::base::human::{count, size};
use crate::store::{KnownDamage, NAMESPACES, NamespaceCount, RepositoryOverview};

/// The longest key under which the script remembers that a namespace is folded, in bytes. Namespaces with the same
/// beginning fold together.
const LONGEST_KEY: usize = 48;

/// A line of the tree.
pub(super) enum Line {
    /// The start of a namespace.
    Open {
        /// Its path, with a slash in the end, as far as it fits.
        key: String,
        /// Its name within the namespace around it.
        label: String,
        /// The number of its repositories, on all pages.
        count: String,
    },
    /// The end of a namespace.
    Close,
    /// A repository.
    Repository(Row),
}

/// A repository in the list.
pub(super) struct Row {
    pub(super) name: String,
    /// Its name within the namespaces around it.
    pub(super) label: String,
    pub(super) tags: String,
    pub(super) size: String,
    pub(super) pushed: When,
    /// True if content of one of its images is missing or corrupt.
    pub(super) is_damaged: bool,
}

impl Row {
    /// Returns the row of a repository within a namespace, whose path has `prefix` bytes.
    fn new(repository: &RepositoryOverview, prefix: usize, damage: &KnownDamage) -> Self {
        Row {
            name: repository.name.to_string(),
            label: shorten(&repository.name.as_str()[prefix..], NAME),
            tags: repository.describe_tags(),
            size: size(repository.bytes),
            pushed: When::at(repository.pushed),
            is_damaged: damage.is_in(&repository.name),
        }
    }
}

/// Returns the lines for repositories in the order of their names. `counts` has the number of repositories in each
/// namespace. Namespaces below [`NAMESPACES`] levels stay part of the repository's label.
pub(super) fn lines(
    items: &[RepositoryOverview],
    counts: &BTreeMap<String, NamespaceCount>,
    damage: &KnownDamage,
) -> Vec<Line> {
    let (mut lines, mut open): (Vec<Line>, Vec<&str>) = (Vec::new(), Vec::new());
    for repository in items {
        let name = repository.name.as_str();
        while open.last().is_some_and(|path| !name.starts_with(path)) {
            open.pop();
            lines.push(Line::Close);
        }
        let prefix = open.last().map_or(0, |path| path.len());
        for (at, _) in name[prefix..].match_indices('/').take(NAMESPACES - open.len()) {
            let (start, path) = (open.last().map_or(0, |path| path.len()), &name[..=prefix + at]);
            let inside = counts.get(path).copied().unwrap_or_default();
            // A single repository gets no line for its namespace.
            if inside.count < 2 && !inside.is_more {
                break;
            }
            lines.push(Line::Open {
                key: shorten(path, LONGEST_KEY),
                label: shorten(&path[start..], NAME),
                count: describe(inside),
            });
            open.push(path);
        }
        let prefix = open.last().map_or(0, |path| path.len());
        lines.push(Line::Repository(Row::new(repository, prefix, damage)));
    }
    lines.extend(open.iter().map(|_| Line::Close));
    lines
}

/// Describes the number of repositories in a namespace.
fn describe(inside: NamespaceCount) -> String {
    if inside.is_more { format!("{}+ repositories", inside.count) } else { count(inside.count, "repository") }
}

/// Returns the lines for repositories in any other order, without namespaces.
pub(super) fn flat(items: &[RepositoryOverview], damage: &KnownDamage) -> Vec<Line> {
    items.iter().map(|repository| Line::Repository(Row::new(repository, 0, damage))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 100;

    fn shown(names: &[&str], counts: &[(&str, usize)]) -> Vec<String> {
        let overview = |name: &&str| RepositoryOverview {
            name: name.parse().unwrap(),
            manifests: 1,
            tags: 1,
            bytes: 1,
            pushed: 1,
            emptied: None,
        };
        let items: Vec<RepositoryOverview> = names.iter().map(overview).collect();
        let inside = |count| NamespaceCount { count, is_more: count == MANY };
        let counts = counts.iter().map(|(path, count)| ((*path).to_owned(), inside(*count))).collect();
        let line = |line| match line {
            Line::Open { key, label, count } => format!("{key} ({label}): {count}"),
            Line::Close => ")".into(),
            Line::Repository(row) => row.label,
        };
        lines(&items, &counts, &KnownDamage::default()).into_iter().map(line).collect()
    }

    #[test]
    fn namespaces_below_the_fourth_level_are_part_of_the_label() {
        let counts = ["a/", "a/b/", "a/b/c/", "a/b/c/d/", "a/b/c/d/e/"].map(|path| (path, 2));
        let shown = shown(&["a/b/c/d/e/one", "a/b/c/d/e/two"], &counts);
        assert_eq!(shown[3..6], ["a/b/c/d/ (d/): 2 repositories", "e/one", "e/two"]);
    }

    #[test]
    fn namespace_of_many_repositories_says_that_there_are_more() {
        let shown = shown(&["a/one"], &[("a/", MANY)]);
        assert_eq!(shown, ["a/ (a/): 100+ repositories", "one", ")"]);
    }

    #[test]
    fn namespaces_open_and_close_around_their_repositories() {
        let names = ["a/b/one", "a/b/two", "a/c", "lonely/one", "plain"];
        let shown = shown(&names, &[("a/", 3), ("a/b/", 2), ("lonely/", 1)]);
        assert_eq!(
            shown,
            [
                "a/ (a/): 3 repositories",
                "a/b/ (b/): 2 repositories",
                "one",
                "two",
                ")",
                "c",
                ")",
                "lonely/one",
                "plain"
            ]
        );
    }
}
