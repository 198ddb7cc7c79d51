//! Suggestions for misspelt keys.

/// The least similarity, from 0 to 1, at which one name is suggested for another.
const SIMILAR: f64 = 0.85;

/// Returns the candidate that an unknown name most likely means: one that is spelt alike, or the same key of another
/// section.
pub(super) fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let wanted = last(&name);
    // The last part has the greatest weight: a key in the wrong section is more likely than another key of the same
    // section.
    let similarity = |candidate: &str| {
        let candidate = candidate.to_ascii_lowercase();
        let last = last(&candidate);
        let score =
            0.3 * strsim::jaro_winkler(&name, &candidate) + 0.7 * strsim::jaro_winkler(&wanted, &last);
        if last == wanted { score.max(SIMILAR) } else { score }
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
            ("storage.colour", None),
        ] {
            assert_eq!(suggest(name, known), expected, "{name}");
        }
    }
}
