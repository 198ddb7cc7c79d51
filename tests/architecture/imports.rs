//! Which file of `daemon/` imports which, read from the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Path of a module below the crate, such as `["store", "index"]`.
pub type Module = Vec<String>;

/// All modules with their files, and the names that their `use` declarations bring in.
pub struct Imports {
    files: BTreeMap<Module, PathBuf>,
    paths: BTreeMap<Module, Vec<Vec<String>>>,
}

impl Imports {
    /// Reads all sources below `root`. Unit tests in a file are left out: they may use what stands above.
    pub fn read(root: &Path, sources: &[PathBuf]) -> Self {
        let (mut files, mut paths) = (BTreeMap::new(), BTreeMap::new());
        for file in sources.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        {
            let module = module_of(file.strip_prefix(root).unwrap());
            let is_test = module.last().is_some_and(|name| name == "tests" || name.ends_with("_tests"));
            if is_test || module.len() == 1 && matches!(module[0].as_str(), "lib" | "main") {
                continue;
            }
            let text = fs::read_to_string(file).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            paths.insert(
                module.clone(),
                named_paths(text).iter().map(|path| absolute(&module, path)).collect(),
            );
            files.insert(module, file.clone());
        }
        Imports { files, paths }
    }

    /// Returns the modules of the same room that a module imports. A parent and its own descendants do not count as imports of
    /// each other: a parent presents its children, and they extend its types.
    fn of(&self, module: &Module) -> BTreeSet<Module> {
        let targets = self.paths[module].iter().filter_map(|path| self.resolve(path, 0));
        let counts = |target: &Module| {
            target[0] == module[0] && !target.starts_with(module) && !module.starts_with(target)
        };
        targets.filter(counts).collect()
    }

    /// Returns all modules.
    pub fn modules(&self) -> impl Iterator<Item = &Module> {
        self.files.keys()
    }

    /// Returns the modules of the same room that a module needs, those that it stands in and those below it included. The room
    /// itself is named by visibilities only.
    pub fn needed(&self, module: &Module) -> BTreeSet<Module> {
        let targets = self.paths[module].iter().filter_map(|path| self.resolve(path, 0));
        targets.filter(|target| target[0] == module[0] && target != module && target.len() > 1).collect()
    }

    /// Returns the module in whose file the named item stands, through re-exports.
    fn resolve(&self, path: &[String], depth: usize) -> Option<Module> {
        let length = (1..=path.len()).rev().find(|length| self.files.contains_key(&path[..*length]))?;
        let (module, rest) = (path[..length].to_vec(), &path[length..]);
        let exported = rest.first().filter(|_| depth < 8).and_then(|name| {
            let behind = |other: &&Vec<String>| {
                other.last() == Some(name) && other.len() > module.len() + 1 && other.starts_with(&module)
            };
            self.paths[&module].iter().find(behind)
        });
        exported.map_or(Some(module.clone()), |exported| self.resolve(exported, depth + 1))
    }

    /// Returns the circles of files that import each other, each in the order of its imports.
    pub fn circles(&self) -> Vec<String> {
        let mut edges: BTreeMap<_, _> =
            self.files.keys().map(|module| (module.clone(), self.of(module))).collect();
        let mut circles = Vec::new();
        let next = |edges: &BTreeMap<Module, BTreeSet<Module>>| {
            let mut done = BTreeSet::new();
            edges.keys().find_map(|module| search(module, edges, &mut Vec::new(), &mut done))
        };
        while let Some(circle) = next(&edges) {
            // Without its last import the circle is open, and the next one can be found.
            edges.get_mut(&circle[circle.len() - 2]).unwrap().remove(circle.last().unwrap());
            circles.push(circle.iter().map(|module| module.join("/")).collect::<Vec<_>>().join(" -> "));
        }
        circles
    }
}

/// Depth-first search; `way` are the modules from the start to this one.
fn search(
    module: &Module,
    edges: &BTreeMap<Module, BTreeSet<Module>>,
    way: &mut Vec<Module>,
    done: &mut BTreeSet<Module>,
) -> Option<Vec<Module>> {
    if let Some(start) = way.iter().position(|passed| passed == module) {
        return Some(way[start..].iter().chain([module]).cloned().collect());
    }
    if !done.insert(module.clone()) {
        return None;
    }
    way.push(module.clone());
    let found = edges[module].iter().find_map(|next| search(next, edges, way, done));
    way.pop();
    found
}

fn module_of(file: &Path) -> Module {
    let mut module: Module =
        file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|name| name == "mod") {
        module.pop();
    }
    module
}

/// Makes a path that begins with `crate`, `self` or `super` one from the crate's root.
fn absolute(module: &Module, path: &[String]) -> Vec<String> {
    let mut whole = if path[0] == "crate" { Vec::new() } else { module.clone() };
    for part in path {
        match part.as_str() {
            "crate" | "self" => {}
            "super" => drop(whole.pop()),
            _ => whole.push(part.clone()),
        }
    }
    whole
}

/// Returns every path in a text that begins with `crate::`, `self::` or `super::`, those of nested `use` trees one by one.
fn named_paths(text: &str) -> Vec<Vec<String>> {
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut paths = Vec::new();
    for start in ["crate::", "self::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|before| !before.is_alphanumeric() && before != '_' && before != ':') {
                expand(&code[at..], &[], &mut paths);
            }
        }
    }
    paths
}

/// Reads a path, with what follows in braces, and returns what is left of the text.
fn expand<'a>(text: &'a str, prefix: &[String], paths: &mut Vec<Vec<String>>) -> &'a str {
    let (mut whole, mut rest) = (prefix.to_vec(), text);
    loop {
        let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if length > 0 {
            whole.push(rest[..length].to_owned());
            rest = &rest[length..];
        }
        match rest.strip_prefix("::") {
            Some(next) if next.starts_with(|c: char| c.is_alphanumeric() || c == '_') => rest = next,
            Some(next) if next.starts_with('{') => {
                rest = next[1..].trim_start();
                while !rest.is_empty() && !rest.starts_with('}') {
                    rest = expand(rest, &whole, paths);
                    // `as OTHER`, which names nothing new.
                    rest = &rest[rest.find([',', '}']).unwrap_or(rest.len())..];
                    rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
                }
                return rest.strip_prefix('}').unwrap_or(rest);
            }
            _ => break,
        }
    }
    if whole.len() > 1 {
        // `use super::x::{self, Y}` names the module itself.
        if whole.last().is_some_and(|last| last == "self") {
            whole.pop();
        }
        paths.push(whole);
    }
    rest
}

#[test]
fn paths_of_nested_use_trees_are_read_one_by_one() {
    let text = "use super::a::{self, B, c::{D, E as F}};\nfn f() { crate::g::h(); }\n// super::comment\n";
    let mut paths: Vec<String> = named_paths(text).iter().map(|path| path.join("::")).collect();
    paths.sort();
    assert_eq!(paths, ["crate::g::h", "super::a", "super::a::B", "super::a::c::D", "super::a::c::E"]);
}
