//! How much of what strangers wrote fits on a page: every page has less than 60 KiB with its style sheet and script,
//! whatever was pushed. A text is as long as its HTML, where a quote takes five bytes.

/// What a text is cut off at, however few there are.
const LONGEST: usize = 1200;
/// What is shown of every text, in bytes: a row that has no room for so much is counted instead.
const SHORTEST: usize = 48;

/// The bytes that are left for what follows on a page. What a section leaves goes to the next one.
#[derive(Default)]
pub(super) struct Budget(usize);

/// The rows of a section, and how many there are that are not shown.
pub(super) struct Section<T> {
    pub(super) rows: Vec<T>,
    pub(super) more: usize,
}

/// What a row takes.
pub(super) trait Row {
    /// The bytes of it that nothing can make less.
    fn fixed(&self) -> usize;

    /// The texts that may be cut off.
    fn texts(&mut self) -> Vec<&mut String>;
}

impl Budget {
    /// Gives a section so many bytes more, and lets it show the first of its rows: all of them where they fit, with
    /// shorter texts the more they are. `more` are left out already.
    pub(super) fn show<T: Row>(&mut self, bytes: usize, mut rows: Vec<T>, more: usize) -> Section<T> {
        self.0 += bytes;
        let all = rows.len();
        let shown = fitting(&mut rows, self.0);
        rows.truncate(shown);
        let fixed: usize = rows.iter().map(Row::fixed).sum();
        let mut texts: Vec<&mut String> = rows.iter_mut().flat_map(Row::texts).collect();
        let lengths = texts.iter().map(|text| length(text)).collect();
        let longest = level(lengths, self.0.saturating_sub(fixed)).min(LONGEST);
        for text in &mut texts {
            **text = fit(text, longest);
        }
        let used = fixed + texts.iter().map(|text| length(text)).sum::<usize>();
        self.0 = self.0.saturating_sub(used);
        Section { more: more + all - rows.len(), rows }
    }

    /// Gives so many bytes more, and as many as are left.
    pub(super) fn rest(&mut self, bytes: usize) -> usize {
        std::mem::take(&mut self.0) + bytes
    }
}

/// How many rows fit, with their texts cut off as far as can be.
fn fitting<T: Row>(rows: &mut [T], bytes: usize) -> usize {
    let mut used = 0;
    let fits = |row: &mut T| {
        used += row.fixed() + row.texts().iter().map(|text| length(text).min(SHORTEST)).sum::<usize>();
        used <= bytes
    };
    rows.iter_mut().map(fits).take_while(|fits| *fits).count()
}

/// Where texts of these lengths have to be cut off so that they take so many bytes together.
fn level(mut lengths: Vec<usize>, bytes: usize) -> usize {
    lengths.sort_unstable();
    let (mut left, mut count) = (bytes, lengths.len());
    for length in lengths {
        if length * count > left {
            return left / count;
        }
        left -= length;
        count -= 1;
    }
    usize::MAX
}

/// How long a text is in HTML.
pub(super) fn length(text: &str) -> usize {
    text.chars().map(length_of).sum()
}

/// As templates escape it.
fn length_of(c: char) -> usize {
    if matches!(c, '"' | '\'' | '&' | '<' | '>') { "&#34;".len() } else { c.len_utf8() }
}

/// A text with so many bytes in HTML at the most.
pub(super) fn fit(text: &str, longest: usize) -> String {
    let (mut used, mut cut) = (0, 0);
    for (at, c) in text.char_indices() {
        used += length_of(c);
        if used > longest {
            return format!("{}…", &text[..cut]);
        }
        // The sign that something is missing takes its place, too.
        if used + '…'.len_utf8() <= longest {
            cut = at + c.len_utf8();
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Row for String {
        fn fixed(&self) -> usize {
            10
        }

        fn texts(&mut self) -> Vec<&mut String> {
            vec![self]
        }
    }

    #[test]
    fn texts_are_cut_to_what_they_take_in_html() {
        assert_eq!(
            (fit("abc", 3), fit("abcdef", 5), fit("", 0)),
            ("abc".into(), "ab…".into(), String::new())
        );
        assert_eq!((fit("a<<", 11), fit("a<<", 10)), ("a<<".into(), "a<…".into()));
        assert_eq!((fit("äöü", 6), fit("äöü", 5), length("ä\"")), ("äöü".into(), "ä…".into(), 7));
    }

    #[test]
    fn long_texts_give_way_before_rows_do() {
        let rows = |count: usize| vec!["x".repeat(500); count];
        let lengths = |shown: &Section<String>| shown.rows.iter().map(String::len).collect::<Vec<_>>();
        let few = Budget::default().show(2000, rows(2), 0);
        assert_eq!((lengths(&few), few.more), (vec![500, 500], 0));
        let more = Budget::default().show(2000, rows(10), 1);
        assert_eq!((lengths(&more), more.more), (vec![190; 10], 1));
        let many = Budget::default().show(2000, rows(100), 0);
        assert_eq!((many.rows.len(), many.more), (2000 / (10 + SHORTEST), 100 - 34));
    }

    #[test]
    fn what_one_section_leaves_is_for_the_next() {
        let mut budget = Budget::default();
        assert_eq!(budget.show(1000, vec!["short".to_owned(), "x".repeat(100)], 0).more, 0);
        assert_eq!(budget.rest(50), 1000 - 10 - 5 - 10 - 100 + 50);
        assert_eq!(level(vec![1, 5, 5], 9), 4);
    }
}
