//! SBOMs in SPDX: version 2 in JSON and as tag-value text, version 3 as JSON-LD.
//!
//! The content is untrusted input; memory is bounded by the length of the document, which the caller limits.

use std::collections::HashMap;

use super::bill::{Bill, Package, PackageFilter};
use super::json_find::{at, items, member, text, text_at};

/// The longest value of a tag that is kept, in bytes.
const MAX_VALUE: usize = 4096;
/// The most licences, and packages with a licence, that are kept of a document of version 3.
const MAX_LICENCES: usize = 50_000;
/// The addresses of the licences of SPDX, before their identifiers.
const LISTED: [&str; 2] = ["https://spdx.org/licenses/", "http://spdx.org/licenses/"];

/// Reads a document of version 2 in JSON.
pub(super) fn of_json(json: &str, filter: &PackageFilter) -> Option<Bill> {
    let version = text_at(json, &["spdxVersion"])?;
    let mut bill = Bill {
        format: version.replacen('-', " ", 1),
        name: text_at(json, &["name"]),
        created: text_at(json, &["creationInfo", "created"]),
        ..Bill::default()
    };
    items(at(json, &["creationInfo", "creators"]).unwrap_or_default(), |creator| {
        bill.tool = text(creator).and_then(|creator| tool(&creator));
        bill.tool.is_none()
    });
    items(member(json, "packages").unwrap_or_default(), |package| {
        bill.add(package_of_json(package), filter);
        true
    });
    Some(bill)
}

fn package_of_json(json: &str) -> Option<Package> {
    let licence = |name| text_at(json, &[name]).and_then(known_licence);
    Some(Package {
        name: text_at(json, &["name"])?,
        version: text_at(json, &["versionInfo"]),
        licence: licence("licenseConcluded").or_else(|| licence("licenseDeclared")),
    })
}

fn tool(creator: &str) -> Option<String> {
    creator.strip_prefix("Tool:").map(|tool| tool.trim().to_owned())
}

/// Returns a licence, unless the document says that it has none or does not know it.
fn known_licence(text: String) -> Option<String> {
    Some(text).filter(|text| !matches!(text.as_str(), "" | "NOASSERTION" | "NONE"))
}

/// Reads a document of version 2 as tag-value text: lines of `TAG: VALUE`, where `<text>` begins a value of several lines.
pub(super) fn of_tag_value(text: &str, filter: &PackageFilter) -> Option<Bill> {
    let mut tags = Tags(text.strip_prefix('\u{feff}').unwrap_or(text));
    let (_, version) = tags.next().filter(|(tag, _)| *tag == "SPDXVersion")?;
    let mut bill = Bill { format: kept(version).replacen('-', " ", 1), ..Bill::default() };
    let (mut package, mut declared): (Option<Package>, Option<String>) = (None, None);
    for (tag, value) in tags {
        match (tag, &mut package) {
            ("PackageName", _) => {
                bill.add(package.take().map(|package| with_licence(package, declared.take())), filter);
                let name = Some(kept(value)).filter(|name| !name.is_empty());
                package = name.map(|name| Package { name, ..Package::default() });
            }
            ("DocumentName", None) => bill.name = Some(kept(value)),
            ("Created", None) => bill.created = Some(kept(value)),
            ("Creator", None) => bill.tool = bill.tool.take().or_else(|| tool(&kept(value))),
            ("PackageVersion", Some(package)) => package.version = Some(kept(value)),
            ("PackageLicenseConcluded", Some(package)) => package.licence = known_licence(kept(value)),
            ("PackageLicenseDeclared", Some(_)) => declared = known_licence(kept(value)),
            _ => {}
        }
    }
    bill.add(package.map(|package| with_licence(package, declared)), filter);
    Some(bill)
}

fn with_licence(package: Package, declared: Option<String>) -> Package {
    Package { licence: package.licence.or(declared), ..package }
}

fn kept(value: &str) -> String {
    value[..value.floor_char_boundary(MAX_VALUE)].to_owned()
}

/// The tags of a document with their values; comments and other lines are left out.
struct Tags<'a>(&'a str);

impl<'a> Iterator for Tags<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            let (line, rest) = self.0.split_once('\n').unwrap_or((self.0, ""));
            self.0 = rest;
            let Some((tag, value)) = line.trim().split_once(':').filter(|_| !line.starts_with('#')) else {
                continue;
            };
            let value = value.trim();
            let Some(first) = value.strip_prefix("<text>") else { return Some((tag.trim_end(), value)) };
            if let Some((whole, _)) = first.split_once("</text>") {
                return Some((tag.trim_end(), whole.trim()));
            }
            // The lines up to the end of the value are no tags.
            self.0 = rest.split_once("</text>").map_or("", |(_, after)| after);
            return Some((tag.trim_end(), first));
        }
        None
    }
}

/// Reads a document of version 3 in JSON-LD: a list of elements, of which relationships give packages their licences.
pub(super) fn of_linked_data(json: &str, filter: &PackageFilter) -> Option<Bill> {
    member(json, "@context").filter(|context| context.contains("spdx.org/rdf/3"))?;
    let graph = member(json, "@graph")?;
    let mut bill = Bill { format: "SPDX 3".into(), ..Bill::default() };
    let mut licences = Licences::default();
    items(graph, |element| {
        match kind(element).as_str() {
            "CreationInfo" => {
                bill.created = bill.created.take().or_else(|| text_at(element, &["created"]));
                if let Some(version) = text_at(element, &["specVersion"]) {
                    bill.format = format!("SPDX {version}");
                }
            }
            "SpdxDocument" => bill.name = bill.name.take().or_else(|| text_at(element, &["name"])),
            "Tool" => bill.tool = bill.tool.take().or_else(|| text_at(element, &["name"])),
            "Relationship" => licences.add_relationship(element),
            kind if kind.contains("icens") => licences.add_licence(element),
            _ => {}
        }
        true
    });
    items(graph, |element| {
        if kind(element) == "software_Package" {
            bill.add(licences.package(element), filter);
        }
        true
    });
    Some(bill)
}

fn kind(element: &str) -> String {
    text_at(element, &["type"]).or_else(|| text_at(element, &["@type"])).unwrap_or_default()
}

fn identifier(element: &str) -> Option<String> {
    text_at(element, &["spdxId"]).or_else(|| text_at(element, &["@id"]))
}

/// The licences of a document of version 3.
#[derive(Default)]
struct Licences {
    /// The expressions or names by the identifier of the element.
    texts: HashMap<String, String>,
    /// The identifiers of the licences by that of the package; a concluded licence goes before a declared one.
    packages: HashMap<String, String>,
}

impl Licences {
    fn add_licence(&mut self, element: &str) {
        let names = ["simplelicensing_licenseExpression", "name"];
        let value = names.into_iter().find_map(|name| text_at(element, &[name]));
        if let (Some(id), Some(value)) = (identifier(element), value)
            && self.texts.len() < MAX_LICENCES
        {
            self.texts.insert(id, value);
        }
    }

    fn add_relationship(&mut self, element: &str) {
        let is_concluded = match text_at(element, &["relationshipType"]).as_deref() {
            Some("hasConcludedLicense") => true,
            Some("hasDeclaredLicense") => false,
            _ => return,
        };
        let (Some(from), Some(to)) = (text_at(element, &["from"]), member(element, "to")) else { return };
        let mut first = text(to);
        items(to, |one| {
            first = text(one);
            first.is_none()
        });
        let Some(licence) = first.filter(|licence| is_known(licence)) else { return };
        let is_better = is_concluded || !self.packages.contains_key(&from);
        if is_better && self.packages.len() < MAX_LICENCES {
            self.packages.insert(from, licence);
        }
    }

    fn package(&self, element: &str) -> Option<Package> {
        let licence = identifier(element).and_then(|id| self.packages.get(&id));
        Some(Package {
            name: text_at(element, &["name"])?,
            version: text_at(element, &["software_packageVersion"]),
            licence: licence.map(|id| self.text(id)).and_then(known_licence),
        })
    }

    /// Returns the identifier of a licence of SPDX, the text of an element, or its identifier.
    fn text(&self, id: &str) -> String {
        let listed = LISTED.iter().find_map(|start| id.strip_prefix(start));
        listed.or_else(|| self.texts.get(id).map(String::as_str)).unwrap_or(id).to_owned()
    }
}

/// Returns true unless the licence is one of the individuals that stand for none, or for an unknown one.
fn is_known(licence: &str) -> bool {
    !["NoAssertionLicense", "NoneLicense"].iter().any(|end| licence.ends_with(end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn all() -> PackageFilter {
        PackageFilter { limit: 100, ..PackageFilter::default() }
    }

    fn package(name: &str, version: Option<&str>, licence: Option<&str>) -> Package {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Package { name: name.into(), version: own(version), licence: own(licence) }
    }

    #[test]
    fn json_of_version_2_lists_packages_with_licences() {
        let document = json!({"spdxVersion": "SPDX-2.3", "name": "app", "creationInfo":
            {"created": "2026-01-02T03:04:05Z", "creators": ["Organization: x", "Tool: syft-1.0"]},
            "packages": [
                {"name": "zlib", "versionInfo": "1.3", "licenseConcluded": "NOASSERTION", "licenseDeclared": "Zlib"},
                {"name": "musl", "versionInfo": 7, "licenseConcluded": "MIT"}, 7, {"versionInfo": "1"}]});
        let bill = of_json(&document.to_string(), &all()).unwrap();
        assert_eq!((bill.format.as_str(), bill.tool.as_deref()), ("SPDX 2.3", Some("syft-1.0")));
        assert_eq!(
            bill.packages,
            [package("zlib", Some("1.3"), Some("Zlib")), package("musl", None, Some("MIT"))]
        );
        assert_eq!((bill.total, bill.matching), (2, 2));
    }

    #[test]
    fn tag_value_lists_packages_and_skips_texts_and_comments() {
        let document = "\u{feff}# A comment: here\n\nSPDXVersion: SPDX-2.2\r\nDocumentName: app\nCreator: Person: me\n\
            Creator: Tool: syft-1.0\nCreated: 2026-01-02T03:04:05Z\nno tag\n\n\
            PackageName: zlib\nSPDXID: SPDXRef-1\nPackageVersion: 1.3\nPackageLicenseConcluded: NOASSERTION\n\
            PackageLicenseDeclared: Zlib\nPackageComment: <text>one\nPackageName: inside\n</text>\n\
            PackageName: <text>musl</text>\nPackageLicenseConcluded: MIT\nPackageLicenseDeclared: Other\n\
            PackageName:\nPackageVersion: 9\nPackageComment: <text>without an end\nPackageName: lost\n";
        let bill = of_tag_value(document, &all()).unwrap();
        assert_eq!((bill.format.as_str(), bill.name.as_deref()), ("SPDX 2.2", Some("app")));
        assert_eq!(
            (bill.tool.as_deref(), bill.created.as_deref()),
            (Some("syft-1.0"), Some("2026-01-02T03:04:05Z"))
        );
        assert_eq!(
            bill.packages,
            [package("zlib", Some("1.3"), Some("Zlib")), package("musl", None, Some("MIT"))]
        );
        let page =
            of_tag_value(document, &PackageFilter { search: "mit".into(), skip: 0, limit: 5 }).unwrap();
        assert_eq!((page.total, page.matching, page.packages[0].name.as_str()), (2, 1, "musl"));
        for other in ["", "DocumentName: app\nSPDXVersion: SPDX-2.3", "{\"spdxVersion\": \"SPDX-2.3\"}"] {
            assert_eq!(of_tag_value(other, &all()), None, "{other}");
        }
    }

    #[test]
    fn linked_data_of_version_3_joins_packages_and_licences() {
        let package_of = |id: &str, name: &str| json!({"type": "software_Package", "spdxId": id, "name": name, "software_packageVersion": "1"});
        let relation = |kind: &str, from: &str, to: serde_json::Value| json!({"type": "Relationship", "relationshipType": kind, "from": from, "to": to});
        let document = json!({"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": [
            relation("hasDeclaredLicense", "urn:a", json!(["urn:mit"])),
            relation("hasConcludedLicense", "urn:a", json!(["https://spdx.org/licenses/Zlib"])),
            relation("hasDeclaredLicense", "urn:a", json!(["urn:mit"])),
            relation("hasDeclaredLicense", "urn:b", json!("urn:mit")),
            relation("hasConcludedLicense", "urn:b", json!(["https://spdx.org/rdf/3.0.1/terms/ExpandedLicensing/NoAssertionLicense"])),
            relation("hasDeclaredLicense", "urn:c", json!(["urn:unknown"])),
            relation("contains", "urn:a", json!(["urn:b"])),
            package_of("urn:a", "zlib"), package_of("urn:b", "musl"), package_of("urn:c", "own"), package_of("urn:d", "none"),
            {"type": "software_File", "spdxId": "urn:f", "name": "file"},
            {"type": "simplelicensing_LicenseExpression", "spdxId": "urn:mit", "simplelicensing_licenseExpression": "MIT OR X"},
            {"type": "CreationInfo", "@id": "_:c", "specVersion": "3.0.1", "created": "2026-01-02T03:04:05Z"},
            {"type": "SpdxDocument", "spdxId": "urn:doc", "name": "app"},
            {"type": "Tool", "spdxId": "urn:tool", "name": "syft"}, 7]});
        let bill = of_linked_data(&document.to_string(), &all()).unwrap();
        assert_eq!(
            bill.packages,
            [
                package("zlib", Some("1"), Some("Zlib")),
                package("musl", Some("1"), Some("MIT OR X")),
                package("own", Some("1"), Some("urn:unknown")),
                package("none", Some("1"), None),
            ]
        );
        assert_eq!((bill.format.as_str(), bill.name.as_deref()), ("SPDX 3.0.1", Some("app")));
        assert_eq!((bill.tool.as_deref(), bill.total), (Some("syft"), 4));
        let other = json!({"@context": "https://schema.org", "@graph": []});
        assert_eq!(of_linked_data(&other.to_string(), &all()), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "(SPDXVersion: SPDX-2.3\n)?(PackageName: |<text>|</text>|:|\n|#|.){0,60}") {
            let _ = of_tag_value(&text, &all());
            let _ = of_linked_data(&text, &all());
        }
    }
}
