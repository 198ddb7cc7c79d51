//! Places in the tree of settings, such as `http.tls.key`, and the variables of the environment that name them.

/// The prefix of variables.
const PREFIX: &str = "REGISTRY_";
/// The prefix of variables that set a header; the name of a header may have other letters than the rest.
const HEADERS: &str = "REGISTRY_HTTP_HEADERS_";

/// Places whose variable has another name than the setting in the file: registry:2 derives variables from the fields of
/// its Go structs.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("notifications.eventconfig", "notifications.events"),
    ("health.filecheckers", "health.file"),
    ("health.httpcheckers", "health.http"),
    ("health.tcpcheckers", "health.tcp"),
];

/// Returns the place that a variable stands for.
pub(super) fn place_of(name: &str) -> String {
    if let Some(header) = name.strip_prefix(HEADERS) {
        return format!("http.headers.{}", title_case(&header.replace("__", "-")));
    }
    let place = name.strip_prefix(PREFIX).unwrap_or(name).to_ascii_lowercase().replace('_', ".");
    for (field, known) in OTHER_NAMES {
        if let Some(rest) = place.strip_prefix(field) {
            return format!("{known}{rest}");
        }
    }
    place
}

/// Returns true if a place is in a section or one of its sections.
pub(super) fn is_below(place: &str, section: &str) -> bool {
    place.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

/// Writes the name of a header in its usual case, such as `X-Frame-Options`.
pub(super) fn title_case(name: &str) -> String {
    let parts = name.split('-').map(|part| {
        let lower = part.to_ascii_lowercase();
        let mut letters = lower.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    parts.collect::<Vec<_>>().join("-")
}
