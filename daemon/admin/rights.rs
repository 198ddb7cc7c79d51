//! The rules of users: the list of both sources, and the forms that change those of the admin page.
//!
//! A rule is entered, looked at with its effect in words, and then saved. The last step is the only one that changes anything.

use askama::Template;
use http::StatusCode;

use super::error::AdminError;
use super::limits::{NAME, SENTENCE, TEXT, shorten};
use super::pager::{Pager, page_of};
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use super::users::{check_may, entered_name, log_change};
use crate::access::{Action, ListedRule, RuleChange, RulePreview, UserChangeKind, UserRights};
use crate::wire::{Query, Response};

/// The rules on a page.
const ROWS: usize = 12;
/// The longest pattern that is put into a form again, in bytes.
const LONGEST_PATTERN: usize = 255;
/// The actions: value of the form, and label.
const ACTIONS: [(&str, &str, Action); 4] = [
    ("pull", "pull", Action::Pull),
    ("push", "push", Action::Push),
    ("delete", "delete", Action::Delete),
    ("catalog", "list repositories (included in pull)", Action::Catalog),
];

#[derive(Template)]
#[template(path = "rights.html")]
struct Page {
    frame: Frame,
    /// The name whose rights are shown; empty for all rules.
    name: String,
    /// The name in words.
    whose: String,
    /// The rights of the name in words.
    now: Option<String>,
    rows: Vec<Row>,
    pager: Pager,
    fault: Option<String>,
    error: Option<String>,
    /// The pattern of the rule that the form changes.
    before: Option<String>,
    /// The fields of the form.
    entered: String,
    pattern: String,
    actions: Vec<(&'static str, &'static str, bool)>,
}

struct Row {
    names: String,
    words: String,
    source: String,
    /// The number of a rule of the page, by which it is changed.
    number: Option<usize>,
    is_in_effect: bool,
    /// True for a rule of the page whose user does not exist.
    is_unknown: bool,
}

#[derive(Template)]
#[template(path = "set_rule.html")]
struct Confirmation {
    frame: Frame,
    name: String,
    whose: String,
    /// The rule in words.
    before: Option<String>,
    after: Option<String>,
    warnings: Vec<&'static str>,
    users: Vec<UserRights>,
    is_cut: bool,
    state: String,
    /// The fields of the form: the pattern of the rule that is changed, the new one, and the actions.
    old: Option<String>,
    pattern: String,
    allow: Vec<&'static str>,
}

/// The content of the form with a rule.
#[derive(Default)]
struct Form {
    name: String,
    before: Option<String>,
    pattern: String,
    allow: Vec<Action>,
}

impl Form {
    fn of(fields: &Query) -> Self {
        let field = |name| fields.get(name).map(|text| text.trim().to_owned());
        let allow = ACTIONS.iter().filter(|(value, ..)| fields.all("allow").any(|chosen| chosen == *value));
        Form {
            name: field("name").unwrap_or_default(),
            before: field("before"),
            pattern: field("repositories").unwrap_or_default(),
            allow: allow.map(|(_, _, action)| *action).collect(),
        }
    }

    fn of_rule(rule: ListedRule) -> Self {
        let (name, pattern) = (rule.names.concat(), rule.patterns.concat());
        Form { name, before: Some(pattern.clone()), pattern, allow: rule.allow }
    }
}

/// Shows the rules for a name, or all of them, and the form for another one.
pub(super) async fn show(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    check_may(request)?;
    let form = match request.query.get("edit") {
        Some(number) => Form::of_rule(rule_of_page(request, number)?),
        None => Form { name: request.query.get("name").unwrap_or_default().to_owned(), ..Form::default() },
    };
    list(request, form, None).await
}

/// Shows the effect of a change.
pub(super) async fn confirm(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    check_may(request)?;
    let removed = request.query.get("remove").map(|number| rule_of_page(request, number)).transpose()?;
    let is_removal = removed.is_some();
    let form = removed.map_or_else(|| Form::of(&request.query), Form::of_rule);
    let change = change_of(&form, is_removal);
    let preview = request.access.preview_rule(&request.own_name()?, &change).await;
    match preview.map_err(AdminError::from) {
        Ok(preview) => render(OK, &confirmation(request, form, &change, preview)),
        Err(error) => refuse(request, form, error).await,
    }
}

/// Saves or removes a rule.
pub(super) async fn set(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    check_may(request)?;
    let form = Form::of(&request.form);
    let is_removal = request.form.get("repositories").is_none();
    let change = change_of(&form, is_removal);
    let state = request.field("state");
    match request.access.change_rule(&request.own_name()?, &change, state).await.map_err(AdminError::from) {
        Ok(()) => {
            let whose = in_words(&change.name);
            let allowed: Vec<&str> = values(&form.allow);
            let pattern =
                if is_removal { change.before.as_deref().unwrap_or_default() } else { &form.pattern };
            let done =
                if is_removal { "removed the rule".into() } else { format!("set {}", allowed.join(", ")) };
            log_change(request, &format!("{done} in {pattern} for {whose}"));
            request.record_user_change(&whose, UserChangeKind::RightsSet).await;
            let name: String = form_urlencoded::byte_serialize(change.name.as_bytes()).collect();
            let done = if is_removal { "rule-removed" } else { "rule" };
            Ok(request.see_result(&format!("/users/rights?name={name}"), done))
        }
        Err(error) => refuse(request, form, error).await,
    }
}

fn change_of(form: &Form, is_removal: bool) -> RuleChange {
    let after = (!is_removal).then(|| (form.pattern.clone(), form.allow.clone()));
    RuleChange { name: form.name.clone(), before: form.before.clone(), after }
}

/// Shows the form again with the mistake.
async fn refuse(request: &AdminRequest<'_>, form: Form, error: AdminError) -> Result<Response, AdminError> {
    match error {
        AdminError::Invalid(why) => list(request, form, Some(shorten(&why, SENTENCE))).await,
        error => Err(error),
    }
}

fn rule_of_page(request: &AdminRequest, number: &str) -> Result<ListedRule, AdminError> {
    let wanted = number.parse().ok();
    let rules = request.access.listed_rules().into_iter();
    let found = rules.filter(|rule| rule.is_of_page).find(|rule| Some(rule.number) == wanted);
    found.ok_or_else(|| AdminError::NotFound("There is no such rule.".into()))
}

fn confirmation(
    request: &AdminRequest,
    form: Form,
    change: &RuleChange,
    preview: RulePreview,
) -> Confirmation {
    let is_full = change.after.as_ref().is_some_and(|(pattern, allow)| {
        pattern == "*"
            && [Action::Pull, Action::Push, Action::Delete].iter().all(|action| allow.contains(action))
    });
    let warnings = [
        (
            preview.restricts,
            "This is the first rule that names users. From then on users have only the rights that rules give them.",
        ),
        (preview.frees, "No other rule names users: without this one every user has full rights."),
        (
            is_full && change.name != "-",
            "These are full rights: they include users, settings and maintenance.",
        ),
        (
            change.name == "-" && change.after.is_some(),
            "Every client that can reach the registry may do this, without a password.",
        ),
    ];
    let (text, in_row) = (|text: String| shorten(&text, SENTENCE), |text: &str| shorten(text, TEXT));
    let users = preview.users.into_iter().map(|user| UserRights {
        before: in_row(&user.before),
        after: in_row(&user.after),
        name: user.name,
    });
    Confirmation {
        frame: Frame::new(request, "users"),
        whose: in_words(&form.name),
        name: entered_name(&form.name),
        before: preview.before.map(text),
        after: preview.after.map(text),
        warnings: warnings.into_iter().filter(|(applies, _)| *applies).map(|(_, text)| text).collect(),
        users: users.collect(),
        is_cut: preview.is_cut,
        state: preview.state,
        old: form.before,
        allow: values(&form.allow),
        pattern: form.pattern,
    }
}

fn values(allow: &[Action]) -> Vec<&'static str> {
    ACTIONS.iter().filter(|(_, _, action)| allow.contains(action)).map(|(value, ..)| *value).collect()
}

async fn list(request: &AdminRequest<'_>, form: Form, error: Option<String>) -> Result<Response, AdminError> {
    let status = if error.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { OK };
    let is_edit = request.query.get("edit").is_some();
    let name = if is_edit { "" } else { request.query.get("name").unwrap_or_default() };
    let name = if error.is_some() { String::new() } else { entered_name(name) };
    let known = request.access.users().await;
    let is_for = |rule: &ListedRule| {
        let is_user = !["*", "-"].contains(&name.as_str());
        name.is_empty()
            || rule.names.iter().any(|one| *one == name || (is_user && (one == "*" || one == "-")))
    };
    let rules: Vec<ListedRule> = request.access.listed_rules().into_iter().filter(is_for).collect();
    let (total, page) = (rules.len(), Pager::wanted(&request.query));
    let is_unknown = |rule: &ListedRule| {
        rule.is_of_page
            && rule.names.iter().any(|one| !["*", "-"].contains(&one.as_str()) && !known.contains(one))
    };
    let places = &request.admin.settings.rule_places;
    let row = |rule: ListedRule| Row {
        is_unknown: is_unknown(&rule),
        source: match places.get(rule.number).filter(|_| !rule.is_of_page) {
            Some(place) => shorten(place, NAME),
            None if rule.is_of_page => "this page".into(),
            None => "the configuration".into(),
        },
        number: rule.is_of_page.then_some(rule.number),
        names: shorten(&rule.names.iter().map(|name| in_words(name)).collect::<Vec<_>>().join(", "), NAME),
        words: shorten(&rule.words, TEXT),
        is_in_effect: rule.is_in_effect,
    };
    let is_user = known.contains(&name);
    let rights = is_user.then(|| request.access.rights(&name).sentences.join("; "));
    let page = Page {
        frame: Frame::new(request, "users"),
        whose: in_words(&name),
        now: rights.map(|text| if text.is_empty() { "no rights".into() } else { shorten(&text, SENTENCE) }),
        rows: page_of(rules, page, ROWS).into_iter().map(row).collect(),
        pager: Pager::new(page, ROWS, total, "/users/rights", &[("name", &name)]),
        fault: request.access.rules_fault().map(|fault| shorten(&fault, SENTENCE)),
        error,
        before: form.before.map(|before| cut(&before)),
        entered: entered_name(&form.name),
        pattern: cut(&form.pattern),
        actions: ACTIONS.map(|(value, label, action)| (value, label, form.allow.contains(&action))).into(),
        name,
    };
    render(status, &page)
}

/// Returns a name of a rule in words.
fn in_words(name: &str) -> String {
    match name {
        "*" => "every user who logs in".into(),
        "-" => "clients that do not log in".into(),
        name => entered_name(name),
    }
}

/// Returns a pattern as it is put into the form again.
fn cut(pattern: &str) -> String {
    pattern[..pattern.floor_char_boundary(LONGEST_PATTERN)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;

    #[test]
    fn largest_pages_are_small() {
        let [quotes, _] = worst_case::texts();
        let row = |_| Row {
            names: shorten(&quotes, NAME),
            words: shorten(&quotes, TEXT),
            source: shorten(&quotes, NAME),
            number: Some(511),
            is_in_effect: false,
            is_unknown: true,
        };
        worst_case::assert_small(&Page {
            frame: worst_case::frame(),
            name: entered_name(&quotes),
            whose: in_words(&quotes),
            now: Some(shorten(&quotes, SENTENCE)),
            rows: (0..ROWS).map(row).collect(),
            pager: Pager::new(20, ROWS, 1000, "/users/rights", &[("name", &entered_name(&quotes))]),
            fault: Some(shorten(&quotes, SENTENCE)),
            error: Some(shorten(&quotes, SENTENCE)),
            before: Some(cut(&quotes)),
            entered: entered_name(&quotes),
            pattern: cut(&quotes),
            actions: ACTIONS.map(|(value, label, _)| (value, label, true)).into(),
        });
        let user = |_| UserRights {
            name: entered_name(&quotes),
            before: shorten(&quotes, TEXT),
            after: shorten(&quotes, TEXT),
        };
        worst_case::assert_small(&Confirmation {
            frame: worst_case::frame(),
            name: entered_name(&quotes),
            whose: in_words(&quotes),
            before: Some(shorten(&quotes, SENTENCE)),
            after: Some(shorten(&quotes, SENTENCE)),
            warnings: vec!["w"; 3],
            users: (0..8).map(user).collect(),
            is_cut: true,
            state: "s".repeat(16),
            old: Some(cut(&quotes)),
            pattern: cut(&quotes),
            allow: vec!["catalog"; 4],
        });
    }
}
