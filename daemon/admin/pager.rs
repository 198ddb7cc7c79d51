//! Lists in pages: the search field, the page number and the sort order of a query, and the links between them.

use super::error::AdminError;
use crate::store::ListQuery;
use crate::wire::Query;

/// The longest search text, in bytes: the longest tag. A longer text is cut, so that pages keep their bound; it then matches
/// the names that begin like it.
const LONGEST_SEARCH: usize = 128;

/// Returns the text that a list is searched for, from the parameter `q`.
pub(super) fn search_text(query: &Query) -> String {
    let search = query.get("q").unwrap_or_default().trim();
    search[..search.floor_char_boundary(LONGEST_SEARCH)].to_owned()
}

/// The position of a page in its list, and the links to its neighbours.
pub(super) struct Pager {
    /// The number of this page, counted from one.
    pub(super) page: usize,
    pub(super) pages: usize,
    /// The address of the list up to the number of the page.
    base: String,
}

impl Pager {
    /// Returns the page number of a query, from the parameter `page`.
    pub(super) fn wanted(query: &Query) -> usize {
        query.get("page").and_then(|page| page.parse().ok()).unwrap_or(1).clamp(1, 1_000_000)
    }

    /// Divides a list of `total` rows into pages of `size` rows; a page beyond the last one is the last one. Links go to `path` with the parameters that are not empty;
    /// an empty path stays on the current one.
    pub(super) fn new(
        page: usize,
        size: usize,
        total: usize,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Self {
        let given = parameters.iter().filter(|(_, value)| !value.is_empty());
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish();
        let base = if query.is_empty() { format!("{path}?") } else { format!("{path}?{query}&") };
        let pages = total.div_ceil(size).max(1);
        Pager { page: page.min(pages), pages, base }
    }

    /// Refuses a page beyond the last one, whose rows were asked of the store before the number of pages was known.
    pub(super) fn check_page(&self, wanted: usize) -> Result<(), AdminError> {
        if wanted <= self.pages { Ok(()) } else { Err(AdminError::BeyondLastPage(self.link(self.pages))) }
    }

    fn link(&self, page: usize) -> String {
        format!("{}page={page}", self.base)
    }

    /// Returns the address of the previous page.
    pub(super) fn previous(&self) -> Option<String> {
        (self.page > 1).then(|| self.link(self.page - 1))
    }

    /// Returns the numbers of the first and last page and those around this one, each with its address; `None` stands
    /// for numbers that are left out.
    pub(super) fn numbers(&self) -> Vec<Option<(usize, String)>> {
        let around = self.page.saturating_sub(1)..=self.page + 1;
        let shown = (1..=self.pages.min(1)).chain(around).chain([self.pages]);
        let mut numbers: Vec<Option<(usize, String)>> = Vec::new();
        let mut last = 0;
        for page in shown.filter(|page| (1..=self.pages).contains(page)) {
            if page <= last {
                continue;
            }
            if page > last + 1 {
                numbers.push(None);
            }
            numbers.push(Some((page, self.link(page))));
            last = page;
        }
        numbers
    }

    /// Returns the address of the next page.
    pub(super) fn next(&self) -> Option<String> {
        (self.page < self.pages).then(|| self.link(self.page + 1))
    }
}

/// Returns the rows of one page, which is counted from one; those of the last page for a page beyond it.
pub(super) fn page_of<T>(rows: Vec<T>, page: usize, size: usize) -> Vec<T> {
    let page = page.min(rows.len().div_ceil(size).max(1));
    rows.into_iter().skip((page - 1).saturating_mul(size)).take(size).collect()
}

/// The view of a sorted list that a query asks for: its search, its order and its page.
pub(super) struct ListView<O> {
    pub(super) search: String,
    /// The value of the parameter `sort`.
    pub(super) sort: &'static str,
    pub(super) order: O,
    pub(super) descending: bool,
    /// The number of the page, counted from one.
    page: usize,
}

impl<O: Copy> ListView<O> {
    /// Reads a query. `orders` are the values of the parameter `sort`, besides the default one.
    pub(super) fn new(query: &Query, default: (&'static str, O), orders: &[(&'static str, O)]) -> Self {
        let wanted = query.get("sort");
        let known = orders.iter().find(|(sort, _)| Some(*sort) == wanted);
        let (sort, order) = known.copied().unwrap_or(default);
        ListView {
            search: search_text(query),
            sort,
            order,
            descending: query.get("dir") == Some("down"),
            page: Pager::wanted(query),
        }
    }

    /// Returns the query of the store for this page, which has at most `rows` rows.
    pub(super) fn list_query(&self, rows: usize) -> ListQuery<O> {
        ListQuery {
            search: self.search.clone(),
            order: self.order,
            descending: self.descending,
            page: self.page - 1,
            limit: rows,
        }
    }

    /// Returns the value of the parameter `dir`.
    pub(super) fn direction(&self) -> &'static str {
        if self.descending { "down" } else { "up" }
    }

    /// Returns the links between the pages of `rows` rows, which keep search and order; refuses a page beyond the last one.
    pub(super) fn pager(&self, rows: usize, total: usize, path: &str) -> Result<Pager, AdminError> {
        let parameters = [("q", self.search.as_str()), ("sort", self.sort), ("dir", self.direction())];
        let pager = Pager::new(self.page, rows, total, path, &parameters);
        pager.check_page(self.page)?;
        Ok(pager)
    }
}

/// A link that sorts a list by one column.
pub(super) struct Sorting {
    pub(super) name: &'static str,
    pub(super) link: String,
    /// `ascending` or `descending` for the column that the list is sorted by.
    pub(super) active: Option<&'static str>,
}

impl Sorting {
    /// Returns the link for the column `key`. It reverses the order if the list is sorted by that column, and otherwise
    /// sorts in the column's default order, which `descends` or not.
    pub(super) fn new(
        (name, key, descends): (&'static str, &str, bool),
        path: &str,
        search: &str,
        (active, descending): (&str, bool),
    ) -> Self {
        let is_active = active == key;
        let descends = if is_active { !descending } else { descends };
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !search.is_empty() {
            query.append_pair("q", search);
        }
        query.append_pair("sort", key).append_pair("dir", if descends { "down" } else { "up" });
        let direction = if descending { "descending" } else { "ascending" };
        Sorting { name, link: format!("{path}?{}", query.finish()), active: is_active.then_some(direction) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_link_to_their_neighbours_and_keep_the_parameters() {
        let pager = |page| Pager::new(page, 10, 25, "/x", &[("q", "a b"), ("sort", "")]);
        assert_eq!((pager(1).previous(), pager(1).next()), (None, Some("/x?q=a+b&page=2".into())));
        assert_eq!((pager(3).previous(), pager(3).next()), (Some("/x?q=a+b&page=2".into()), None));
        assert_eq!((pager(99).page, pager(99).next()), (3, None), "beyond the end");
        assert!(pager(99).check_page(3).is_ok());
        let last = pager(99).check_page(99);
        assert!(matches!(last, Err(AdminError::BeyondLastPage(last)) if last == "/x?q=a+b&page=3"));
        let numbers = |page, pages| {
            let numbers = Pager { page, pages, base: String::new() }.numbers().into_iter();
            numbers.map(|number| number.map_or(0, |(page, _)| page)).collect::<Vec<_>>()
        };
        assert_eq!((numbers(1, 1), numbers(2, 3)), (vec![1], vec![1, 2, 3]));
        assert_eq!(numbers(5, 9), [1, 0, 4, 5, 6, 0, 9]);
        assert_eq!(page_of((0..25).collect(), 3, 10), [20, 21, 22, 23, 24]);
        assert_eq!(page_of(vec![1], usize::MAX, 10), [1], "the last page");
        assert!(page_of(Vec::<u8>::new(), 7, 10).is_empty());
    }
}
