//! Lists of repositories on tables in memory, compared with a sorted list.

use super::*;
use crate::store::index::tables::memory::Memory;
use crate::store::index::tables::port::WriteTables;

fn tables(names: &[String]) -> Memory {
    let mut tables = Memory::default();
    for (number, name) in names.iter().enumerate() {
        let number = number as u64;
        let (manifests, bytes, pushed) = (1, number * 7919 % 1000, number * 31 % 977);
        let tags = u32::try_from(number % 10).unwrap();
        let row = RepositoryRow { manifests, tags, bytes, pushed };
        tables.put_row(Table::Repositories, name.as_bytes(), &row).unwrap();
    }
    tables
}

fn only(wanted: impl Fn(&str) -> bool + Send + Sync + 'static) -> Visible {
    Visible::only(move |name| wanted(name.as_str()))
}

#[test]
fn pages_are_those_of_a_sorted_list() {
    let names: Vec<String> = (0..50).map(|number| format!("team{}/app{number:02}", number % 3)).collect();
    let tables = tables(&names);
    let orders =
        [RepositoryOrder::Name, RepositoryOrder::Size, RepositoryOrder::Tags, RepositoryOrder::Pushed];
    let visible = [Visible::All, only(|name| name != "team1/app13"), only(|_| false)];
    for ((order, visible), search) in orders
        .into_iter()
        .flat_map(|order| visible.iter().map(move |visible| (order, visible)))
        .flat_map(|one| ["", "TEAM1", "app0", "nothing"].map(|search| (one, search)))
    {
        for descending in [false, true] {
            let list = |page, limit| {
                let part = ListQuery { search: search.to_owned(), order, descending, page, limit };
                tables.repositories_overview(&part, visible, &Cancel::default()).unwrap()
            };
            let accepted =
                names.iter().filter(|name| visible.has(name) && name.contains(&search.to_lowercase()));
            let mut expected: Vec<RepositoryOverview> = accepted
                .map(|name| tables.repository_overview(&name.parse().unwrap()).unwrap().unwrap())
                .collect();
            expected.sort_by(|one, other| {
                let by = match order {
                    RepositoryOrder::Name => one.name.cmp(&other.name),
                    RepositoryOrder::Size => one.bytes.cmp(&other.bytes),
                    RepositoryOrder::Tags => one.tags.cmp(&other.tags),
                    RepositoryOrder::Pushed => one.pushed.cmp(&other.pushed),
                };
                (if descending { by.reverse() } else { by }).then_with(|| one.name.cmp(&other.name))
            });
            let pages: Vec<RepositoryOverview> =
                (0..9).flat_map(|page| list(page, 7).listing.items).collect();
            assert_eq!(pages, expected, "{order:?} {search}");
            assert_eq!(list(0, 7).listing.total, expected.len());
            if !search.is_empty() || !visible.has_all() {
                assert_eq!(list(3, 7).bytes, expected.iter().map(|one| one.bytes).sum::<u64>());
            }
        }
    }
}

#[test]
fn namespaces_are_counted_across_pages_up_to_the_depth_limit() {
    let names = ["a", "a-b/x", "a/b/c/d/e/one", "a/b/c/d/e/two", "a/z", "a0/x"];
    let tables = tables(&names.map(str::to_owned));
    let counts = |page, visible: &Visible| {
        let part = ListQuery { page, limit: 1, ..ListQuery::default() };
        tables.repositories_overview(&part, visible, &Cancel::default()).unwrap().namespaces
    };
    let expected = |counts: &[(&str, usize)]| {
        let count = |count| NamespaceCount { count, is_more: false };
        counts.iter().map(|(name, number)| ((*name).to_owned(), count(*number))).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(counts(2, &Visible::All), expected(&[("a/", 3), ("a/b/", 2), ("a/b/c/", 2), ("a/b/c/d/", 2)]));
    assert!(counts(0, &Visible::All).is_empty());
    assert_eq!(
        counts(1, &only(|name| name.starts_with('a') && name != "a")),
        expected(&[("a/", 3), ("a/b/", 2), ("a/b/c/", 2), ("a/b/c/d/", 2)])
    );
    assert_eq!(counts(0, &only(|name| name == "a/z")), expected(&[("a/", 1)]));
}

#[test]
fn rows_of_a_page_by_name_do_not_depend_on_the_number_of_repositories() {
    let read = |count: usize| {
        let names: Vec<String> = (0..count).map(|number| format!("team/app{number:05}")).collect();
        let tables = tables(&names);
        let before = tables.rows_read();
        let part = ListQuery { page: 1, limit: 38, ..ListQuery::default() };
        let found = tables.repositories_overview(&part, &Visible::All, &Cancel::default()).unwrap();
        assert_eq!((found.listing.total, found.listing.items.len()), (count, 38));
        assert_eq!(found.namespaces["team/"], NamespaceCount { count: MAX_COUNTED, is_more: true });
        tables.rows_read() - before
    };
    assert_eq!(read(1000), read(10_000));
}
