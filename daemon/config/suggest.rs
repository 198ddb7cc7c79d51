//! Suggestions for misspelt keys.

/// How similar two names must be, from 0 to 1, so that one is suggested for the other.
const SIMILAR: f64 = 0.85;

/// Returns the candidate that an unknown name most likely means: one that is spelt alike, or the same key of another
/// section.
pub(super) fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let (lower, wanted) = (name.to_ascii_lowercase(), last(name));
    let similarity = |candidate: &str| {
        let whole = strsim::jaro_winkler(&lower, &candidate.to_ascii_lowercase());
        if last(candidate) == wanted { whole.max(SIMILAR) } else { whole }
    };
    let scored = candidates.into_iter().map(|candidate| (similarity(candidate), candidate));
    let best = scored.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(score, _)| *score >= SIMILAR).map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_no_far_one() {
        let known = ["storage.path", "storage.quota", "service.idle", "tls.mode", "listen"];
        for (name, expected) in [
            ("storage.paht", Some("storage.path")),
            ("storage.Quota", Some("storage.quota")),
            ("limits.idle", Some("service.idle")),
            ("mode", Some("tls.mode")),
            ("listne", Some("listen")),
            ("colour", None),
        ] {
            assert_eq!(suggest(name, known), expected, "{name}");
        }
    }
}
