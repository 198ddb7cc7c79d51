//! The keys of `[[retention]]` and `[[immutable]]`: rules for the tags of some repositories.

use crate::config::format::{Flag, List, Number, Optional};
use crate::config::key::{Initial, Key, Section, key};
use crate::config::rules::Rules;
use crate::config::settings::Config;
use crate::config::text_formats::{DURATION, PATTERN};
use crate::store::{ImmutableRule, RetentionRule};

pub(in crate::config) const TAGS: Section<Config> = Section { name: "", doc: "", keys: TAGS_KEYS };

const TAGS_KEYS: &[Key<Config>] = &[
    key!(
        "retention",
        Initial::Unset(""),
        gc.policy.retention,
        Rules { keys: RETENTION_KEYS, check: check_retention },
        "Which tags are kept. Without a rule all tags are kept; the first rule that matches a repository applies to it. A \
         tag is kept if any of the four keep_ keys keeps it. \"*\" matches any text. `holdfast gc --dry-run` shows what \
         a rule would remove. Signatures and other attachments of an image (docs/how-to/retention.md) do not count, and are \
         removed with it."
    ),
    key!(
        "immutable",
        Initial::Unset(""),
        immutable,
        Rules { keys: IMMUTABLE_KEYS, check: |_: &ImmutableRule| None },
        "Tags that cannot be moved: a push of the same image succeeds, a push of another one gets 403. A delete of the \
         tag gets 403, too, unless the rule allows it, and so does a delete of content that a manifest of the repository \
         references. Retention may still remove such a tag; after that, any client that may push can set it again. Tags \
         of signatures (sha256-..., sha512-...) match only patterns that begin with the same prefix."
    ),
];

const RETENTION_KEYS: &[Key<RetentionRule>] = &[
    key!(
        "retention.repositories",
        Initial::Required("[\"ci/*\"]"),
        repositories,
        List(PATTERN, 1),
        "patterns of repositories"
    ),
    key!(
        "retention.keep_newest",
        Initial::Unset("10"),
        newest,
        Optional(Number(0, u32::MAX)),
        "keeps the ten tags that were set last"
    ),
    key!(
        "retention.keep_younger",
        Initial::Unset("\"30d\""),
        younger,
        Optional(DURATION),
        "keeps tags that were set in the last thirty days"
    ),
    key!(
        "retention.keep_pulled",
        Initial::Unset("\"30d\""),
        pulled,
        Optional(DURATION),
        "keeps images that were pulled in the last thirty days"
    ),
    key!(
        "retention.keep_tags",
        Initial::Unset("[\"v*\", \"latest\"]"),
        tags,
        List(PATTERN, 0),
        "keeps tags that match one of these patterns"
    ),
    key!(
        "retention.remove_untagged",
        Initial::Unset("\"7d\""),
        untagged,
        Optional(DURATION),
        "removes manifests without a tag after a week"
    ),
];

/// Refuses a rule that would remove every tag.
fn check_retention(rule: &RetentionRule) -> Option<&'static str> {
    let keeps_time = [rule.younger, rule.pulled].into_iter().flatten().any(|period| !period.is_zero());
    let keeps_none = rule.newest.unwrap_or(0) == 0 && !keeps_time && rule.tags.is_empty();
    (keeps_none && rule.limits_tags()).then_some(
        "this rule of [[retention]] would keep no tag at all; set keep_newest to at least 1, or set keep_younger, \
         keep_pulled or keep_tags (without all four every tag is kept)",
    )
}

const IMMUTABLE_KEYS: &[Key<ImmutableRule>] = &[
    key!(
        "immutable.repositories",
        Initial::Required("[\"prod/*\"]"),
        repositories,
        List(PATTERN, 1),
        "patterns of repositories"
    ),
    key!("immutable.tags", Initial::Required("[\"v*\"]"), tags, List(PATTERN, 1), "patterns of tags"),
    key!(
        "immutable.delete",
        Initial::Value("false"),
        delete,
        Flag,
        "true: clients may delete such a tag, and then set it again"
    ),
];
