//! The packages of an SBOM, of which a page shows some.

/// A page of the packages of an SBOM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// The format with its version, such as `SPDX-2.3`.
    pub format: String,
    /// The name of the document.
    pub name: Option<String>,
    /// The creation time, as its tool wrote it.
    pub created: Option<String>,
    /// The tool that made it.
    pub tool: Option<String>,
    /// The number of all packages.
    pub total: usize,
    /// The number of packages that match the filter.
    pub matching: usize,
    /// The packages of the page.
    pub packages: Vec<Package>,
}

/// A package in an SBOM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// The name.
    pub name: String,
    /// The version.
    pub version: Option<String>,
    /// The licence.
    pub licence: Option<String>,
}

/// The packages that a page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageFilter {
    /// A text in lower case that the name, the version or the licence contains.
    pub search: String,
    /// The number of matching packages on the pages before.
    pub skip: usize,
    /// The maximum number of packages on the page.
    pub limit: usize,
}

impl Bill {
    /// Counts a package, and keeps it if it is on the page.
    pub(super) fn add(&mut self, package: Option<Package>, filter: &PackageFilter) {
        let Some(package) = package else { return };
        self.total += 1;
        if !package.matches(&filter.search) {
            return;
        }
        if self.matching >= filter.skip && self.packages.len() < filter.limit {
            self.packages.push(package);
        }
        self.matching += 1;
    }
}

impl Package {
    fn matches(&self, search: &str) -> bool {
        let has = |text: &str| text.to_lowercase().contains(search);
        search.is_empty()
            || has(&self.name)
            || [&self.version, &self.licence].into_iter().flatten().any(|text| has(text))
    }
}
