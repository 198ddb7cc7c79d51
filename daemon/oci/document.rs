//! The documents that people attach to images, for the admin page: SBOMs (SPDX, and `CycloneDX` in JSON), in-toto
//! statements such as provenance, and the payload of cosign signatures.
//!
//! The content is untrusted input: fields of another type are left out, and the packages are counted, of which only
//! those of one page are kept. Memory is bounded by the length of the document, which the caller limits.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::bill::{Bill, Package, PackageFilter};
use super::json_find::{at, items, member, members, text, text_at};
use super::spdx;

/// The maximum depth of components within components that is read.
const MAX_DEPTH: usize = 4;
/// The maximum number of sources, subjects and optional values that are kept.
const MAX_PAIRS: usize = 40;

/// A document that a page can show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// A list of packages.
    Bill(Bill),
    /// An in-toto statement.
    Statement(Box<Statement>),
    /// The payload of a signature.
    Signed(Signed),
}

/// An in-toto statement: provenance, or a statement of another kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// The type of the predicate.
    pub predicate_type: String,
    /// The artifacts that it is about: names and digests.
    pub subjects: Vec<(String, String)>,
    /// The builder.
    pub builder: Option<String>,
    /// The type of the build.
    pub build_type: Option<String>,
    /// The repository of the source.
    pub source: Option<String>,
    /// The commit of the source.
    pub commit: Option<String>,
    /// The start of the build.
    pub started: Option<String>,
    /// The end of the build.
    pub finished: Option<String>,
    /// The materials of the build: addresses and digests.
    pub materials: Vec<(String, String)>,
    /// The number of other materials.
    pub more_materials: usize,
    /// The SBOM in the predicate.
    pub bill: Option<Bill>,
}

/// The payload of a cosign signature. The page verifies no signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// The name of the image that was signed.
    pub reference: Option<String>,
    /// The digest that was signed.
    pub digest: Option<String>,
    /// The values that the signer added.
    pub optional: Vec<(String, String)>,
}

impl Document {
    /// Reads a document; `None` if it is of no known format.
    pub fn parse(bytes: &[u8], filter: &PackageFilter) -> Option<Self> {
        let json = std::str::from_utf8(bytes).ok()?;
        if let Some(bill) = spdx::of_tag_value(json, filter) {
            return Some(Document::Bill(bill));
        }
        // An envelope (DSSE), alone or in a bundle of sigstore.
        let envelope = member(json, "dsseEnvelope").unwrap_or(json);
        if let Some(payload) = member(envelope, "payload") {
            let payload = decoded(payload)?;
            return Self::of_json(std::str::from_utf8(&payload).ok()?, filter);
        }
        Self::of_json(json, filter)
    }

    fn of_json(json: &str, filter: &PackageFilter) -> Option<Self> {
        if let Some(bill) = bill_of_json(json, filter) {
            return Some(Document::Bill(bill));
        }
        if let Some(critical) = member(json, "critical") {
            return Some(Document::Signed(Signed {
                reference: text_at(critical, &["identity", "docker-reference"]),
                digest: text_at(critical, &["image", "docker-manifest-digest"]),
                optional: pairs(member(json, "optional").unwrap_or_default()),
            }));
        }
        text_at(json, &["predicateType"]).map(|predicate_type| {
            Document::Statement(Box::new(Statement::of_json(json, predicate_type, filter)))
        })
    }
}

/// Decodes a string of base64; envelopes use either alphabet.
fn decoded(json: &str) -> Option<Vec<u8>> {
    // Base64 has no escapes, so that the text between the quotes is the value.
    let text = json.strip_prefix('"')?.strip_suffix('"')?;
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}

/// Returns the first members of an object as texts.
fn pairs(json: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    members(json, |name, value| {
        pairs.extend(text(value).map(|value| (name, value)));
        pairs.len() < MAX_PAIRS
    });
    pairs
}

/// Reads an SBOM in JSON; `None` if it is of no known format.
fn bill_of_json(json: &str, filter: &PackageFilter) -> Option<Bill> {
    spdx::of_json(json, filter)
        .or_else(|| spdx::of_linked_data(json, filter))
        .or_else(|| bill_of_cyclonedx(json, filter))
}

fn bill_of_cyclonedx(json: &str, filter: &PackageFilter) -> Option<Bill> {
    if text_at(json, &["bomFormat"])? != "CycloneDX" {
        return None;
    }
    let mut bill = Bill {
        format: format!("CycloneDX {}", text_at(json, &["specVersion"]).unwrap_or_default()),
        name: text_at(json, &["metadata", "component", "name"]),
        created: text_at(json, &["metadata", "timestamp"]),
        tool: tool_of_cyclonedx(json),
        ..Bill::default()
    };
    add_components(&mut bill, json, filter, 0);
    Some(bill)
}

fn add_components(bill: &mut Bill, json: &str, filter: &PackageFilter, depth: usize) {
    let Some(components) = member(json, "components").filter(|_| depth < MAX_DEPTH) else { return };
    items(components, |component| {
        bill.add(package_of_cyclonedx(component), filter);
        add_components(bill, component, filter, depth + 1);
        true
    });
}

/// Returns the tool of a `CycloneDX` document: the first of a list, or of a list of components.
fn tool_of_cyclonedx(json: &str) -> Option<String> {
    let tools = at(json, &["metadata", "tools"])?;
    let mut tool = None;
    items(member(tools, "components").unwrap_or(tools), |first| {
        let version = text_at(first, &["version"]).map(|version| format!(" {version}"));
        tool = text_at(first, &["name"]).map(|name| name + &version.unwrap_or_default());
        false
    });
    tool
}

fn package_of_cyclonedx(json: &str) -> Option<Package> {
    let name = text_at(json, &["name"])?;
    let mut licences = Vec::new();
    items(member(json, "licenses").unwrap_or_default(), |one| {
        let licence = [&["expression"][..], &["license", "id"], &["license", "name"]];
        licences.extend(licence.into_iter().find_map(|path| text_at(one, path)));
        licences.len() < 5
    });
    Some(Package {
        name: text_at(json, &["group"]).map_or_else(|| name.clone(), |group| format!("{group}/{name}")),
        version: text_at(json, &["version"]),
        licence: Some(licences.join(", ")).filter(|text| !text.is_empty()),
    })
}

impl Statement {
    fn of_json(json: &str, predicate_type: String, filter: &PackageFilter) -> Self {
        let mut statement = Statement { predicate_type, ..Statement::default() };
        items(member(json, "subject").unwrap_or_default(), |subject| {
            let name = text_at(subject, &["name"]).unwrap_or_default();
            statement.subjects.push((name, digest_in(subject).unwrap_or_default()));
            statement.subjects.len() < MAX_PAIRS
        });
        let Some(predicate) = member(json, "predicate") else { return statement };
        statement.bill = bill_of_json(predicate, filter)
            // Cosign once wrapped the document.
            .or_else(|| bill_of_json(member(predicate, "Data")?, filter))
            // Cosign has a document in tag-value form as one string.
            .or_else(|| spdx::of_tag_value(&serde_json::from_str::<String>(predicate).ok()?, filter));
        if statement.bill.is_none() {
            statement.read_provenance(predicate);
        }
        statement
    }

    /// Reads the fields of SLSA provenance 0.2 and 1, with those that `BuildKit` adds.
    fn read_provenance(&mut self, predicate: &str) {
        let first = |paths: &[&[&str]]| paths.iter().find_map(|path| text_at(predicate, path));
        self.builder = first(&[&["builder", "id"], &["runDetails", "builder", "id"]]);
        self.build_type = first(&[&["buildType"], &["buildDefinition", "buildType"]]);
        self.started = first(&[&["metadata", "buildStartedOn"], &["runDetails", "metadata", "startedOn"]]);
        self.finished = first(&[&["metadata", "buildFinishedOn"], &["runDetails", "metadata", "finishedOn"]]);
        let parameters = ["buildDefinition", "externalParameters"];
        let [definition, external] = parameters;
        let vcs = at(predicate, &["metadata", "https://mobyproject.org/buildkit@v1#metadata", "vcs"])
            .or_else(|| at(predicate, &["runDetails", "metadata", "buildkit_metadata", "vcs"]));
        self.source = vcs.and_then(|vcs| text_at(vcs, &["source"])).or_else(|| {
            first(&[
                &["invocation", "configSource", "uri"],
                &[definition, external, "workflow", "repository"],
                &[definition, external, "configSource", "uri"],
                &[definition, external, "source"],
            ])
        });
        self.commit = vcs.and_then(|vcs| text_at(vcs, &["revision"])).or_else(|| {
            first(&[
                &["invocation", "configSource", "digest", "sha1"],
                &[definition, external, "configSource", "digest", "sha1"],
            ])
        });
        let materials = member(predicate, "materials")
            .or_else(|| at(predicate, &[definition, "resolvedDependencies"]))
            .unwrap_or_default();
        items(materials, |material| {
            self.add_material(material);
            true
        });
    }

    fn add_material(&mut self, material: &str) {
        if self.materials.len() >= MAX_PAIRS {
            self.more_materials += 1;
            return;
        }
        let Some(uri) = text_at(material, &["uri"]) else { return };
        let commit = ["gitCommit", "sha1"].iter().find_map(|name| text_at(material, &["digest", name]));
        if self.commit.is_none() && uri.starts_with("git") {
            self.commit = commit;
            self.source.get_or_insert_with(|| uri.clone());
        }
        self.materials.push((uri, digest_in(material).unwrap_or_default()));
    }
}

/// Returns the first digest of a subject or a material.
fn digest_in(json: &str) -> Option<String> {
    let (algorithm, value) = pairs(member(json, "digest")?).into_iter().next()?;
    Some(format!("{algorithm}:{value}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(value: &serde_json::Value, filter: &PackageFilter) -> Option<Document> {
        Document::parse(&serde_json::to_vec(value).unwrap(), filter)
    }

    fn all() -> PackageFilter {
        PackageFilter { limit: 100, ..PackageFilter::default() }
    }

    #[track_caller]
    fn bill(value: &serde_json::Value, filter: &PackageFilter) -> Bill {
        match parse(value, filter) {
            Some(Document::Bill(bill)) => bill,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn statement(value: &serde_json::Value) -> Statement {
        match parse(value, &all()) {
            Some(Document::Statement(statement)) => *statement,
            other => panic!("{other:?}"),
        }
    }

    fn package(name: &str, version: Option<&str>, licence: Option<&str>) -> Package {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Package { name: name.into(), version: own(version), licence: own(licence) }
    }

    #[test]
    fn cyclonedx_lists_components_and_those_within() {
        let document = json!({"bomFormat": "CycloneDX", "specVersion": "1.5",
            "metadata": {"tools": {"components": [{"name": "trivy", "version": "0.5"}]}, "component": {"name": "app"}},
            "components": [{"group": "org", "name": "a", "version": "1", "licenses": [{"license": {"id": "MIT"}},
                {"license": {"name": "Own"}}], "components": [{"name": "b", "licenses": [{"expression": "A OR B"}]}]}]});
        let bill = bill(&document, &all());
        assert_eq!(
            bill.packages,
            [package("org/a", Some("1"), Some("MIT, Own")), package("b", None, Some("A OR B"))]
        );
        assert_eq!((bill.format.as_str(), bill.tool.as_deref()), ("CycloneDX 1.5", Some("trivy 0.5")));
    }

    #[test]
    fn packages_are_searched_and_paged() {
        let packages: Vec<_> = (0..10_000).map(|number| json!({"name": format!("Lib-{number}")})).collect();
        let document = json!({"spdxVersion": "SPDX-2.3", "packages": packages});
        let page = bill(&document, &PackageFilter { search: "lib-99".into(), skip: 100, limit: 20 });
        assert_eq!((page.total, page.matching, page.packages.len()), (10_000, 111, 11));
        assert_eq!(page.packages[10].name, "Lib-9999");
    }

    #[test]
    fn provenance_names_builder_source_and_commit() {
        let old = json!({"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{"name": "app", "digest": {"sha256": "00"}}],
            "predicate": {"builder": {"id": "https://ci/1"}, "buildType": "https://mobyproject.org/buildkit@v1",
                "materials": [{"uri": "pkg:docker/alpine", "digest": {"sha256": "11"}},
                    {"uri": "git+https://git/app", "digest": {"sha1": "c0ffee"}}],
                "metadata": {"buildStartedOn": "2026-01-01T00:00:00Z"}}});
        let old = statement(&old);
        assert_eq!(old.builder.as_deref(), Some("https://ci/1"));
        assert_eq!(
            (old.source.as_deref(), old.commit.as_deref()),
            (Some("git+https://git/app"), Some("c0ffee"))
        );
        assert_eq!(old.subjects, [("app".to_owned(), "sha256:00".to_owned())]);
        let new = json!({"predicateType": "https://slsa.dev/provenance/v1", "predicate": {"buildDefinition":
            {"buildType": "t", "externalParameters": {"workflow": {"repository": "https://forge/app"}},
                "resolvedDependencies": [{"uri": "git+https://forge/app", "digest": {"gitCommit": "beef"}}]},
            "runDetails": {"builder": {"id": "runner"}, "metadata": {"startedOn": "x"}}}});
        let new = statement(&new);
        assert_eq!((new.builder.as_deref(), new.commit.as_deref()), (Some("runner"), Some("beef")));
        assert_eq!((new.source.as_deref(), new.started.as_deref()), (Some("https://forge/app"), Some("x")));
    }

    #[test]
    fn envelopes_are_opened_and_signatures_read() {
        let inner = json!({"predicateType": "https://spdx.dev/Document",
            "predicate": {"spdxVersion": "SPDX-2.3", "packages": [{"name": "a"}]}});
        let envelope = json!({"payloadType": "application/vnd.in-toto+json",
            "payload": STANDARD.encode(serde_json::to_vec(&inner).unwrap())});
        for envelope in [envelope.clone(), json!({"dsseEnvelope": envelope})] {
            assert_eq!(statement(&envelope).bill.unwrap().total, 1);
        }
        let tag_value = "SPDXVersion: SPDX-2.3\nPackageName: a\nPackageVersion: 1\n";
        let wrapped = json!({"predicateType": "https://spdx.dev/Document", "predicate": tag_value});
        assert_eq!(statement(&wrapped).bill.unwrap().packages, [package("a", Some("1"), None)]);
        let signature = json!({"critical": {"identity": {"docker-reference": "pi/app"},
            "image": {"docker-manifest-digest": "sha256:00"}}, "optional": {"by": "me", "n": 1}});
        let signed = Signed {
            reference: Some("pi/app".into()),
            digest: Some("sha256:00".into()),
            optional: vec![("by".into(), "me".into())],
        };
        assert_eq!(parse(&signature, &all()), Some(Document::Signed(signed)));
    }

    #[test]
    fn wrong_types_and_deep_nesting_are_left_out() {
        let document =
            json!({"spdxVersion": "SPDX-2.3", "name": [], "creationInfo": 7, "packages": {"a": 1}});
        assert_eq!(bill(&document, &all()).total, 0);
        assert_eq!(parse(&json!([1]), &all()), None);
        assert_eq!(parse(&json!({"spdxVersion": 2}), &all()), None);
        assert_eq!(parse(&json!({"payload": "%%"}), &all()), None);
        let (open, close) = ("{\"components\":[".repeat(100_000), "]}".repeat(100_000));
        let deep = format!("{{\"bomFormat\":\"CycloneDX\",\"components\":[{open}{close}]}}");
        assert!(
            matches!(Document::parse(deep.as_bytes(), &all()), Some(Document::Bill(bill)) if bill.total == 0)
        );
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Document::parse(&bytes, &PackageFilter::default());
        }
    }
}
