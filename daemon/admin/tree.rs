//! A list of repositories as a tree of namespaces: lines that open and close one, and lines of repositories.

use std::collections::BTreeMap;

use crate::store::{NAMESPACES, RepositoryOverview};

use super::words::{When, count, size};

/// A line of the tree.
pub(super) enum Line {
    /// A namespace begins.
    Open {
        /// Its whole name, with a slash at its end.
        path: String,
        /// Its name within the one around it.
        label: String,
        /// How many repositories it has, on all pages.
        count: String,
    },
    /// A namespace ends.
    Close,
    /// A repository.
    Repository(Row),
}

/// A repository in a list.
pub(super) struct Row {
    pub(super) name: String,
    /// Its name within the namespaces around it.
    pub(super) label: String,
    pub(super) tags: String,
    pub(super) size: String,
    pub(super) pushed: When,
}

impl Row {
    fn new(one: &RepositoryOverview, within: usize) -> Self {
        Row {
            name: one.name.to_string(),
            label: one.name.as_str()[within..].to_owned(),
            tags: count(one.tags, "tag"),
            size: size(one.bytes),
            pushed: When::at(one.pushed),
        }
    }
}

/// The lines of repositories that stand in the order of their names, `counts` of them in each namespace. What is deeper
/// than [`NAMESPACES`] is shown as the rest of a name.
pub(super) fn lines(items: &[RepositoryOverview], counts: &BTreeMap<String, usize>) -> Vec<Line> {
    let (mut lines, mut open): (Vec<Line>, Vec<&str>) = (Vec::new(), Vec::new());
    for one in items {
        let name = one.name.as_str();
        while open.last().is_some_and(|path| !name.starts_with(path)) {
            open.pop();
            lines.push(Line::Close);
        }
        let within = open.last().map_or(0, |path| path.len());
        for (at, _) in name[within..].match_indices('/').take(NAMESPACES - open.len()) {
            let (start, path) = (open.last().map_or(0, |path| path.len()), &name[..=within + at]);
            let inside = counts.get(path).copied().unwrap_or(1);
            // A namespace of one repository would be a line more for nothing.
            if inside < 2 {
                break;
            }
            lines.push(Line::Open {
                path: path.to_owned(),
                label: path[start..].to_owned(),
                count: count(u64::try_from(inside).unwrap_or(u64::MAX), "repository"),
            });
            open.push(path);
        }
        lines.push(Line::Repository(Row::new(one, open.last().map_or(0, |path| path.len()))));
    }
    lines.extend(open.iter().map(|_| Line::Close));
    lines
}

/// The same as a plain list, in whatever order.
pub(super) fn flat(items: &[RepositoryOverview]) -> Vec<Line> {
    items.iter().map(|one| Line::Repository(Row::new(one, 0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(names: &[&str], counts: &[(&str, usize)]) -> Vec<String> {
        let one = |name: &&str| RepositoryOverview {
            name: name.parse().unwrap(),
            manifests: 1,
            tags: 1,
            bytes: 1,
            pushed: 1,
        };
        let items: Vec<RepositoryOverview> = names.iter().map(one).collect();
        let counts = counts.iter().map(|(path, count)| ((*path).to_owned(), *count)).collect();
        let line = |line| match line {
            Line::Open { path, label, count } => format!("{path} ({label}): {count}"),
            Line::Close => ")".into(),
            Line::Repository(row) => row.label,
        };
        lines(&items, &counts).into_iter().map(line).collect()
    }

    #[test]
    fn deep_names_end_in_one_line() {
        let counts = ["a/", "a/b/", "a/b/c/", "a/b/c/d/", "a/b/c/d/e/"].map(|path| (path, 2));
        let shown = shown(&["a/b/c/d/e/one", "a/b/c/d/e/two"], &counts);
        assert_eq!(shown[3..6], ["a/b/c/d/ (d/): 2 repositories", "e/one", "e/two"]);
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
