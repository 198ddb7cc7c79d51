//! The lists on the page of an image: the first rows of each, or with `?list=ID&page=N` one list alone, in pages.

use super::limits::{LONG_TEXT, TEXT};
use super::pager::{Pager, page_of};
use crate::wire::Query;

/// A list on the page of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Tags,
    Platforms,
    Layers,
    Settings,
    Labels,
    Annotations,
    Referrers,
    History,
}

/// The part of the page that a query asks for.
#[derive(Clone, Copy)]
pub(super) struct View {
    /// The list that is shown alone; none for the overview of the image.
    alone: Option<List>,
    page: usize,
}

/// The rows of a list that are on the page.
pub(super) struct Section<T> {
    pub(super) rows: Vec<T>,
    /// On the overview, the number of rows of the list that it does not show. In a list alone, the number of rows that
    /// are on none of its pages.
    pub(super) more: usize,
    /// The value of the parameter `list`.
    pub(super) id: &'static str,
    /// The links between the pages of a list that is shown alone.
    pub(super) pager: Option<Pager>,
}

impl List {
    const ALL: [List; 8] = [
        List::Tags,
        List::Platforms,
        List::Layers,
        List::Settings,
        List::Labels,
        List::Annotations,
        List::Referrers,
        List::History,
    ];

    fn id(self) -> &'static str {
        match self {
            List::Tags => "tags",
            List::Platforms => "platforms",
            List::Layers => "layers",
            List::Settings => "config",
            List::Labels => "labels",
            List::Annotations => "annotations",
            List::Referrers => "referrers",
            List::History => "history",
        }
    }

    /// Returns the number of rows on the overview, where all lists together have to fit.
    pub(super) const fn overview_rows(self) -> usize {
        match self {
            List::Settings => 14,
            List::Layers => 13,
            List::Platforms | List::Labels => 10,
            List::History => 9,
            List::Tags | List::Annotations => 8,
            List::Referrers => 4,
        }
    }

    /// Returns the number of rows on a page with this list alone.
    pub(super) const fn rows(self) -> usize {
        match self {
            List::Tags
            | List::Platforms
            | List::Layers
            | List::Settings
            | List::Labels
            | List::Annotations
            | List::History => 40,
            List::Referrers => 20,
        }
    }
}

impl View {
    /// Returns true if this list is shown alone.
    pub(super) fn shows_alone(self, list: List) -> bool {
        self.alone == Some(list)
    }

    pub(super) fn new(query: &Query) -> Self {
        let id = query.get("list");
        let alone = List::ALL.into_iter().find(|list| Some(list.id()) == id);
        View { alone, page: Pager::wanted(query) }
    }

    /// Returns the overview of the image.
    #[cfg(test)]
    pub(super) fn overview() -> Self {
        View { alone: None, page: 1 }
    }

    /// Returns the first page of a list alone.
    #[cfg(test)]
    pub(super) fn alone(list: List) -> Self {
        View { alone: Some(list), page: 1 }
    }

    pub(super) fn is_overview(self) -> bool {
        self.alone.is_none()
    }

    /// Returns the length that texts of images are shortened to.
    pub(super) fn text_length(self) -> usize {
        if self.is_overview() { TEXT } else { LONG_TEXT }
    }

    /// Selects the rows of a list that are on the page. `not_kept` rows follow in the manifest or configuration, which
    /// were not held in memory.
    pub(super) fn section<T>(self, list: List, mut rows: Vec<T>, not_kept: usize) -> Section<T> {
        let (total, id) = (rows.len(), list.id());
        match self.alone {
            None => {
                rows.truncate(list.overview_rows());
                Section { more: total - rows.len() + not_kept, rows, id, pager: None }
            }
            Some(alone) if alone == list => {
                let pager = Pager::new(self.page, list.rows(), total, "", &[("list", id)]);
                let rows = page_of(rows, self.page, list.rows());
                Section { rows, more: not_kept, id, pager: Some(pager) }
            }
            Some(_) => Section { rows: Vec::new(), more: 0, id, pager: None },
        }
    }
}

impl<T> Section<T> {
    /// Returns true if the page has nothing of the list.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.more == 0
    }

    /// Converts the rows that are on the page.
    pub(super) fn map<U>(self, convert: impl FnMut(T) -> U) -> Section<U> {
        let rows = self.rows.into_iter().map(convert).collect();
        Section { rows, more: self.more, id: self.id, pager: self.pager }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overview_has_the_first_rows_and_counts_the_others() {
        let shown = View::overview().section(List::Layers, (0..50).collect(), 7);
        let rows = List::Layers.overview_rows();
        assert_eq!((shown.rows, shown.more), ((0..rows).collect(), 50 - rows + 7));
        assert!(shown.pager.is_none());
    }

    #[test]
    fn list_alone_reaches_every_row_in_pages() {
        let view = |query: &str| View::new(&Query::parse(Some(query)));
        let rows = |query| view(query).section(List::Layers, (0..50).collect(), 7);
        let (first, second) = (rows("list=layers"), rows("list=layers&page=2"));
        let next = first.pager.as_ref().and_then(Pager::next);
        assert_eq!(next.as_deref(), Some("?list=layers&page=2"));
        assert_eq!([first.rows, second.rows].concat(), (0..50).collect::<Vec<_>>());
        assert_eq!(second.more, 7);
        assert!(view("list=layers").section(List::Labels, vec![1], 1).is_empty());
        assert!(view("list=nonsense").is_overview());
    }
}
