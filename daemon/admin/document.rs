//! An SBOM, a statement or a signature in readable form. The registry verifies none of them.

use askama::Template;

use super::error::AdminError;
use super::file::described;
use super::format::{When, short_digest};
use super::limits::{LONG_TEXT, NAME, TEXT, shorten};
use super::pager::{Pager, search_text};
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use crate::base::human::{count, size};
use crate::oci::{Bill, Digest, Document, Package, PackageFilter, RepositoryName, Signed, Statement};
use crate::store::MAX_DOCUMENT;
use crate::wire::Response;

/// The packages on a page.
const ROWS: usize = 40;
/// The materials, subjects and values on a page.
const PAIRS: usize = 10;
/// The longest version or licence.
const WORD: usize = 64;

#[derive(Template)]
#[template(path = "document.html")]
struct Page {
    frame: Frame,
    name: String,
    /// The digest of the manifest that has the document.
    manifest: String,
    short: String,
    blob: String,
    kind: &'static str,
    facts: Vec<Fact>,
    materials: Vec<(String, String)>,
    more_materials: usize,
    bill: Option<Packages>,
}

/// A line of what the document says.
struct Fact {
    name: &'static str,
    value: String,
    when: Option<When>,
}

/// The packages of an SBOM.
struct Packages {
    rows: Vec<Package>,
    search: String,
    summary: String,
    pager: Pager,
}

/// Shows a document.
pub(super) async fn show(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
    manifest: &Digest,
    blob: &Digest,
) -> Result<Response, AdminError> {
    described(request, name, manifest, blob).await?;
    let (search, number) = (search_text(&request.query), Pager::wanted(&request.query));
    let filter = PackageFilter { search: search.to_lowercase(), skip: (number - 1) * ROWS, limit: ROWS };
    let parsed =
        request.admin.store.read_document(name, blob, move |bytes| Document::parse(bytes, &filter)).await?;
    let Some(parsed) = parsed else {
        return Err(AdminError::Invalid(format!(
            "The document is larger than {}, which is too large to be shown. Download it instead.",
            size(MAX_DOCUMENT)
        )));
    };
    let document = parsed.ok_or_else(|| {
        AdminError::Invalid(
            "The document is in none of the formats that can be shown: SPDX, CycloneDX in JSON, in-toto statements, and \
             payloads of cosign. Download it instead."
                .into(),
        )
    })?;
    let frame = Frame::new(request, "repositories");
    let page = page(frame, (name, manifest, blob), document, search, number);
    if let Some(bill) = &page.bill {
        bill.pager.check_page(number)?;
    }
    render(OK, &page)
}

fn page(
    frame: Frame,
    (name, manifest, blob): (&RepositoryName, &Digest, &Digest),
    document: Document,
    search: String,
    number: usize,
) -> Page {
    let mut page = Page {
        frame,
        name: name.to_string(),
        manifest: manifest.to_string(),
        short: short_digest(manifest),
        blob: blob.to_string(),
        kind: "Document",
        facts: Vec::new(),
        materials: Vec::new(),
        more_materials: 0,
        bill: None,
    };
    match document {
        Document::Bill(bill) => page.add_bill(bill, search, number),
        Document::Statement(statement) => page.add_statement(*statement, search, number),
        Document::Signed(signed) => page.add_signature(signed),
    }
    page
}

impl Page {
    fn add(&mut self, name: &'static str, value: Option<String>) {
        let fact = |value: String| Fact { name, value: shorten(&value, LONG_TEXT), when: None };
        self.facts.extend(value.map(fact));
    }

    fn add_time(&mut self, name: &'static str, value: Option<String>) {
        let fact = |value: String| Fact { name, when: When::parse(&value), value: shorten(&value, WORD) };
        self.facts.extend(value.map(fact));
    }

    fn add_bill(&mut self, bill: Bill, search: String, number: usize) {
        let Bill { format, name, created, tool, total, matching, packages } = bill;
        self.kind = "SBOM";
        self.add("Format", Some(format));
        self.add("Name", name);
        self.add("Tool", tool);
        self.add_time("Created", created);
        let summary = match search.as_str() {
            "" => count(total, "package"),
            _ => format!("{matching} of {}", count(total, "package")),
        };
        let short = |text: String| shorten(&text, WORD);
        let row = |package: Package| Package {
            name: shorten(&package.name, NAME),
            version: package.version.map(short),
            licence: package.licence.map(short),
        };
        let pager = Pager::new(number, ROWS, matching, "", &[("document", &self.blob), ("q", &search)]);
        self.bill = Some(Packages { rows: packages.into_iter().map(row).collect(), search, summary, pager });
    }

    fn add_statement(&mut self, statement: Statement, search: String, number: usize) {
        let is_provenance = statement.builder.is_some() || statement.predicate_type.contains("provenance");
        if let Some(bill) = statement.bill {
            self.add_bill(bill, search, number);
        } else if is_provenance {
            self.kind = "Provenance";
        } else {
            self.kind = "Attestation";
        }
        self.add("Builder", statement.builder);
        self.add("Source", statement.source);
        self.add("Commit", statement.commit);
        self.add("Build type", statement.build_type);
        self.add_time("Started", statement.started);
        self.add_time("Finished", statement.finished);
        self.add("Statement", Some(statement.predicate_type));
        for (name, digest) in statement.subjects.into_iter().take(2) {
            self.add("Subject", Some(format!("{name} {digest}").trim().to_owned()));
        }
        self.more_materials = statement.more_materials + statement.materials.len().saturating_sub(PAIRS);
        self.materials = pairs(statement.materials);
    }

    fn add_signature(&mut self, signed: Signed) {
        self.kind = "Signature";
        self.add("Signed image", signed.reference);
        self.add("Signed digest", signed.digest);
        self.materials = pairs(signed.optional);
    }
}

fn pairs(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    let short = |(name, value): (String, String)| (shorten(&name, TEXT), shorten(&value, TEXT));
    pairs.into_iter().take(PAIRS).map(short).collect()
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;

    fn assert_small(document: Document) {
        let (name, digest) = (worst_case::name(0), worst_case::digest());
        let search = "\"".repeat(128);
        worst_case::assert_small(&page(worst_case::frame(), (&name, &digest, &digest), document, search, 9));
    }

    #[test]
    fn largest_pages_are_small() {
        for text in worst_case::texts() {
            let one = || Some(text.clone());
            let package = Package { name: text.clone(), version: one(), licence: one() };
            let bill = Bill {
                format: text.clone(),
                name: one(),
                created: one(),
                tool: one(),
                total: 1_000_000,
                matching: 1_000_000,
                packages: vec![package; ROWS],
            };
            let pairs = vec![(text.clone(), text.clone()); 40];
            let statement = Statement {
                predicate_type: text.clone(),
                subjects: pairs.clone(),
                builder: one(),
                build_type: one(),
                source: one(),
                commit: one(),
                started: one(),
                finished: one(),
                materials: pairs.clone(),
                more_materials: 1_000_000,
                bill: Some(bill.clone()),
            };
            assert_small(Document::Statement(Box::new(statement)));
            assert_small(Document::Bill(bill));
            assert_small(Document::Signed(Signed { reference: one(), digest: one(), optional: pairs }));
        }
    }
}
