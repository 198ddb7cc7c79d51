//! The difference of two lists of lines, and of two lists of named values.

/// The lines of each list that are compared; images have fewer steps.
const MAX_LINES: usize = 300;
/// The unchanged lines that stay beside a change.
const CONTEXT: usize = 2;

/// The change of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Same,
    Removed,
    Added,
    /// Stands for unchanged lines that are left out.
    LeftOut,
}

/// A line of a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) change: Change,
    pub(super) text: String,
}

impl Line {
    fn new(change: Change, text: &str) -> Self {
        Line { change, text: text.to_owned() }
    }

    /// Returns the sign before the line.
    pub(super) fn sign(&self) -> &'static str {
        match self.change {
            Change::Same => " ",
            Change::Removed => "−",
            Change::Added => "+",
            Change::LeftOut => "…",
        }
    }

    /// Returns the word for the change, for screen readers.
    pub(super) fn word(&self) -> &'static str {
        match self.change {
            Change::Same | Change::LeftOut => "",
            Change::Removed => "removed",
            Change::Added => "added",
        }
    }
}

/// Returns the shortest difference that keeps the longest common subsequence.
pub(super) fn diff(a: &[String], b: &[String]) -> Vec<Line> {
    let (a, b) = (&a[..a.len().min(MAX_LINES)], &b[..b.len().min(MAX_LINES)]);
    // The length of the longest common subsequence of the rest of both lists.
    let mut common = vec![vec![0_u16; b.len() + 1]; a.len() + 1];
    for (at, one) in a.iter().enumerate().rev() {
        for (to, other) in b.iter().enumerate().rev() {
            common[at][to] = if one == other {
                common[at + 1][to + 1] + 1
            } else {
                common[at + 1][to].max(common[at][to + 1])
            };
        }
    }
    let (mut lines, mut at, mut to) = (Vec::new(), 0, 0);
    while at < a.len() || to < b.len() {
        if at < a.len() && to < b.len() && a[at] == b[to] {
            lines.push(Line::new(Change::Same, &a[at]));
            (at, to) = (at + 1, to + 1);
        } else if at < a.len() && (to == b.len() || common[at + 1][to] >= common[at][to + 1]) {
            lines.push(Line::new(Change::Removed, &a[at]));
            at += 1;
        } else {
            lines.push(Line::new(Change::Added, &b[to]));
            to += 1;
        }
    }
    lines
}

/// Leaves out the unchanged lines that are not beside a change.
pub(super) fn without_unchanged(lines: Vec<Line>) -> Vec<Line> {
    let is_near = |at: usize| {
        let around = at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(lines.len());
        lines[around].iter().any(|line| line.change != Change::Same)
    };
    let near: Vec<bool> = (0..lines.len()).map(is_near).collect();
    let mut shown: Vec<Line> = Vec::new();
    for (line, near) in lines.into_iter().zip(near) {
        if near {
            shown.push(line);
        } else if shown.last().is_none_or(|last| last.change != Change::LeftOut) {
            shown.push(Line::new(Change::LeftOut, ""));
        }
    }
    shown
}

/// Returns the names whose values differ, with both values.
pub(super) fn changed_values(
    a: &[(String, String)],
    b: &[(String, String)],
) -> Vec<(String, Option<String>, Option<String>)> {
    let find = |list: &[(String, String)], name: &str| {
        list.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    let mut changed: Vec<(String, Option<String>, Option<String>)> = Vec::new();
    for (name, value) in a {
        let other = find(b, name);
        if other.as_ref() != Some(value) {
            changed.push((name.clone(), Some(value.clone()), other));
        }
    }
    let added = b.iter().filter(|(name, _)| find(a, name).is_none());
    changed.extend(added.map(|(name, value)| (name.clone(), None, Some(value.clone()))));
    changed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signs(a: &str, b: &str) -> String {
        let lines = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        diff(&lines(a), &lines(b)).iter().map(|line| format!("{}{}", line.sign(), line.text)).collect()
    }

    #[test]
    fn common_lines_stay_and_others_are_removed_and_added() {
        assert_eq!(signs("abc", "axc"), " a−b+x c");
        assert_eq!(signs("", "ab"), "+a+b");
        assert_eq!(signs("ab", ""), "−a−b");
    }

    #[test]
    fn unchanged_lines_far_from_a_change_are_left_out() {
        let lines = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        let shown = without_unchanged(diff(&lines("abcdefgh"), &lines("abcdefgx")));
        let text: String = shown.iter().map(|line| format!("{}{}", line.sign(), line.text)).collect();
        assert_eq!(text, "… f g−h+x");
    }

    #[test]
    fn values_that_differ_have_both_sides() {
        let list = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let changed = changed_values(
            &list(&[("A", "1"), ("B", "2"), ("C", "3")]),
            &list(&[("A", "1"), ("B", "9"), ("D", "4")]),
        );
        let own = |text: &str| Some(text.to_owned());
        let expected = [("B", own("2"), own("9")), ("C", own("3"), None), ("D", None, own("4"))];
        assert_eq!(changed, expected.map(|(name, a, b)| (name.to_owned(), a, b)));
    }

    proptest! {
        #[test]
        fn both_lists_are_in_the_difference(a in "[ab]{0,12}", b in "[ab]{0,12}") {
            let lines = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
            let all = diff(&lines(&a), &lines(&b));
            let side = |other: Change| -> String {
                all.iter().filter(|line| line.change != other).map(|line| line.text.as_str()).collect()
            };
            prop_assert_eq!((side(Change::Added), side(Change::Removed)), (a, b));
        }
    }
}
