//! The settings in effect, with their sources; read-only.

use askama::Template;

use super::error::AdminError;
use super::limits::{NAME, TEXT, shorten};
use super::pager::{Pager, page_of};
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use super::state::SettingInEffect;
use crate::access::{Identity, Operation};
use crate::wire::Response;

/// The settings on a page.
const ROWS: usize = 30;
/// The longest value of a setting in a list.
const VALUE: usize = 2 * TEXT;

#[derive(Template)]
#[template(path = "configuration.html")]
struct Page {
    frame: Frame,
    /// The sections: address, name, and whether it is shown.
    tabs: Vec<(String, String, bool)>,
    rows: Vec<Row>,
    pager: Pager,
    /// The file with the rules of the admin page.
    rules_file: String,
    /// The number of names that the page added to the certificate.
    added: usize,
    /// These names, in the section of TLS.
    names: Vec<String>,
    may_remove: bool,
}

struct Row {
    name: String,
    value: Option<String>,
    source: Option<String>,
    restart: bool,
    after_restart: Option<String>,
}

/// Shows the settings of a section; those that a source sets without one.
pub(super) fn show(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    check_may(request)?;
    let settings = &request.admin.settings.configuration;
    let sections: Vec<&str> = {
        let mut sections: Vec<_> = settings.iter().map(|setting| setting.section).collect();
        sections.dedup();
        sections.sort_unstable();
        sections.dedup();
        sections.into_iter().filter(|section| !section.is_empty()).collect()
    };
    let wanted = request.query.get("section").filter(|wanted| *wanted == "all" || sections.contains(wanted));
    let is_shown = |setting: &&SettingInEffect| match wanted {
        None => setting.source.is_some(),
        Some("all") => true,
        Some(section) => setting.section == section,
    };
    let shown: Vec<_> = settings.iter().filter(is_shown).collect();
    let (page, total) = (Pager::wanted(&request.query), shown.len());
    let fixed = [("", "Changed"), ("all", "All")];
    let tabs = fixed.into_iter().chain(sections.iter().map(|section| (*section, *section)));
    let tab = |(value, name): (&str, &str)| {
        let link = if value.is_empty() { "/settings".into() } else { format!("/settings?section={value}") };
        (link, name.to_owned(), value == wanted.unwrap_or_default())
    };
    let added = request.context.names.as_ref().map(|names| names.added()).unwrap_or_default();
    let parameters = [("section", wanted.unwrap_or_default())];
    let page = Page {
        frame: Frame::new(request, "settings"),
        tabs: tabs.map(tab).collect(),
        rows: page_of(shown, page, ROWS).into_iter().map(row).collect(),
        pager: Pager::new(page, ROWS, total, "/settings", &parameters),
        rules_file: shorten(&request.admin.settings.page_rules, TEXT),
        added: added.len(),
        names: if wanted == Some("tls") { added } else { Vec::new() },
        may_remove: request.may(&Operation::Users),
    };
    render(OK, &page)
}

fn row(setting: &SettingInEffect) -> Row {
    Row {
        name: setting.name.to_owned(),
        value: setting.value.as_ref().map(|value| shorten(value, VALUE)),
        source: setting.source.as_ref().map(|source| shorten(source, NAME)),
        restart: setting.restart,
        after_restart: setting.after_restart.as_ref().map(|value| shorten(value, NAME)),
    }
}

fn check_may(request: &AdminRequest) -> Result<(), AdminError> {
    match request.identity {
        _ if request.may(&Operation::Maintenance) => Ok(()),
        Identity::Anonymous | Identity::Local(_) => Err(AdminError::NeedsLogin),
        Identity::User(_) => Err(AdminError::Denied("The settings require full rights.")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;

    #[test]
    fn largest_page_is_small() {
        for text in worst_case::texts() {
            let setting = SettingInEffect {
                section: "registry",
                name: "registry.compatible_files",
                value: Some(text.clone()),
                source: Some(text.clone()),
                restart: true,
                after_restart: Some(text.clone()),
            };
            let tab = |_| ("/settings?section=registry".into(), "registry".into(), false);
            let page = |rows, names| Page {
                frame: worst_case::frame(),
                tabs: (0..20).map(tab).collect(),
                rows: (0..rows).map(|_| row(&setting)).collect(),
                pager: Pager::new(20, ROWS, 1000, "/settings", &[("section", "registry")]),
                rules_file: shorten(&text, TEXT),
                added: names,
                names: vec!["n".repeat(253); names],
                may_remove: true,
            };
            worst_case::assert_small(&page(ROWS, 0));
            // The section of TLS has the names, and few keys.
            worst_case::assert_small(&page(8, 32));
        }
    }
}
