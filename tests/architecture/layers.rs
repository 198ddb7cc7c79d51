//! Holds the table of groups in `daemon/store/mod.rs` against the code: no file of the store needs a file that stands above it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::imports::{Imports, Module};
use super::{daemon, sources};

/// The groups of the store, from the top, and the modules of each as paths below the store.
struct Groups(Vec<(String, Vec<String>)>);

impl Groups {
    /// Reads the table in the documentation of a module.
    fn read(text: &str) -> Self {
        let rows = text.lines().filter_map(|line| line.strip_prefix("//! | "));
        let groups = rows.filter(|row| row.contains('`')).map(|row| {
            let (name, modules) = row.split_once(" | ").unwrap();
            let named = modules.split('`').skip(1).step_by(2).map(ToOwned::to_owned);
            (name.to_owned(), named.collect())
        });
        Groups(groups.collect())
    }

    fn modules(&self) -> impl Iterator<Item = &String> {
        self.0.iter().flat_map(|(_, modules)| modules)
    }

    /// Returns the group of a module: its own, else that of the nearest module above it.
    fn of(&self, module: &[String]) -> Option<usize> {
        (1..=module.len()).rev().find_map(|length| {
            let name = module[..length].join("/");
            self.0.iter().position(|(_, modules)| modules.contains(&name))
        })
    }

    /// Returns the arrows that run back up, each as a sentence. Modules without a group are those of tests.
    fn arrows_up(&self, edges: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
        let mut found = Vec::new();
        for (module, needed) in edges {
            let Some(group) = self.of(module) else { continue };
            for other in needed {
                let Some(above) = self.of(other).filter(|other| *other < group) else { continue };
                let (name, above) = (&self.0[group].0, &self.0[above].0);
                found.push(format!("{} ({name}) needs {} ({above})", module.join("/"), other.join("/")));
            }
        }
        found
    }
}

/// Returns the modules that each module of the store needs, as paths below the store, without those of tests.
fn edges() -> BTreeMap<Module, BTreeSet<Module>> {
    let imports = Imports::read(&daemon(), &sources(&daemon()));
    let is_test = |name: &String| name == "tests" || name.starts_with("test_") || name.ends_with("_tests");
    let below = |module: Module| {
        let is_of_store = module.len() > 1 && module[0] == "store" && !module.iter().any(is_test);
        is_of_store.then(|| module[1..].to_vec())
    };
    let needed = |module: &Module| imports.needed(module).into_iter().filter_map(below).collect();
    imports.modules().filter_map(|module| Some((below(module.clone())?, needed(module)))).collect()
}

/// Returns true for a module that is compiled for tests or for fuzzing only.
fn is_for_tests(name: &str, text: &str) -> bool {
    text.contains(&format!("#[cfg(test)]\nmod {name};"))
        || text.contains(&format!("#[cfg(fuzzing)]\nmod {name};"))
}

#[test]
fn no_file_of_the_store_needs_one_that_stands_above_it() {
    let text = fs::read_to_string(daemon().join("store/mod.rs")).unwrap();
    let (groups, edges) = (Groups::read(&text), edges());
    assert!(groups.0.len() > 10 && edges.len() > 100, "the table or the sources were not read");
    let mut seen = BTreeSet::new();
    for module in groups.modules() {
        assert!(seen.insert(module), "{module} stands in the table twice");
        let path = daemon().join("store").join(module);
        let exists = path.with_extension("rs").exists() || path.join("mod.rs").exists();
        assert!(exists, "the table names {module}, which does not exist");
    }
    for module in edges.keys().filter(|module| groups.of(module).is_none()) {
        assert!(is_for_tests(&module[0], &text), "{} stands in no group of the table", module.join("/"));
    }
    let arrows = groups.arrows_up(&edges);
    assert!(arrows.is_empty(), "arrows that run back up:\n{}", arrows.join("\n"));
}

#[test]
fn no_two_files_of_the_store_need_each_other() {
    let edges = edges();
    // Circles of more files are found for the whole daemon; there a parent and its children do not count.
    for (module, needed) in &edges {
        let other = needed.iter().find(|other| edges[*other].contains(module));
        assert!(other.is_none(), "{} and {:?} need each other", module.join("/"), other);
    }
}

#[test]
fn arrows_that_run_back_up_are_found() {
    let groups = Groups::read(
        "//! | group | modules |\n//! |---|---|\n//! | top | `a` (words), `b` |\n//! | ground | `c`, `a/d` |\n",
    );
    let module = |path: &str| path.split('/').map(ToOwned::to_owned).collect::<Module>();
    let edges = |pairs: &[(&str, &str)]| {
        let mut edges: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
        for (from, to) in pairs {
            edges.entry(module(from)).or_default().insert(module(to));
        }
        groups.arrows_up(&edges)
    };
    assert!(edges(&[("a", "b"), ("b", "c"), ("a/e", "a/d"), ("c", "a/d"), ("test", "a")]).is_empty());
    assert_eq!(
        edges(&[("c", "a/e"), ("a/d/f", "b")]),
        ["a/d/f (ground) needs b (top)", "c (ground) needs a/e (top)"]
    );
}
