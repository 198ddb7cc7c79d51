//! Retention rules that match nothing in the store, most likely because a pattern is misspelt.

use std::sync::Arc;

use super::gc::ROWS_PER_READ;
use super::retention::RetentionRule;
use super::{Store, StoreError, blocking};
use crate::oci::{Pattern, RepositoryName};

/// The maximum number of tags that are compared with the patterns of all rules. Patterns that are left count as matched.
const TAGS: usize = 200_000;

/// The state of a rule, while the repositories are visited.
#[derive(Default)]
struct Matches {
    /// True if one of its patterns matches a repository, whichever rule applies to it.
    is_named: bool,
    /// True if it applies to a repository.
    applies: bool,
    /// The patterns of tags that have matched none yet.
    tags: Vec<Pattern>,
}

impl Store {
    /// Returns a sentence for each retention rule that applies to no repository, and for each pattern of `keep_tags` that
    /// matches no tag; `None` for a registry without repositories.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn unmatched_rules(&self, rules: &[RetentionRule]) -> Result<Option<Vec<String>>, StoreError> {
        let mut matches: Vec<Matches> =
            rules.iter().map(|rule| Matches { tags: rule.tags.clone(), ..Matches::default() }).collect();
        let (mut last, mut budget, mut is_empty) = (None, TAGS, true);
        loop {
            let page = self.all_repositories(last, ROWS_PER_READ).await?;
            for repository in &page.items {
                is_empty = false;
                if let Some(applied) = visit(rules, &mut matches, repository) {
                    self.match_tags(repository, &mut applied.tags, &mut budget).await?;
                }
            }
            let Some(name) = page.items.last().filter(|_| page.more) else { break };
            last = Some(name.to_string());
        }
        let all = rules.iter().zip(&matches);
        let sentences = all.flat_map(|(rule, matches)| sentences(rule, matches, budget > 0)).collect();
        Ok(Some(sentences).filter(|_| !is_empty))
    }

    /// Removes the patterns that match a tag of a repository.
    async fn match_tags(
        &self,
        repository: &RepositoryName,
        patterns: &mut Vec<Pattern>,
        budget: &mut usize,
    ) -> Result<(), StoreError> {
        let mut after = None;
        while !patterns.is_empty() && *budget > 0 {
            let (index, name) = (Arc::clone(&self.0.index), repository.clone());
            let page = blocking(move || index.tags_after(&name, after.as_ref(), ROWS_PER_READ)).await?;
            *budget = budget.saturating_sub(page.len().max(1));
            patterns.retain(|pattern| !page.iter().any(|tag| pattern.matches(tag.tag.as_str())));
            let Some(tag) = page.last() else { break };
            after = Some(tag.tag.clone());
        }
        Ok(())
    }
}

/// Notes the rules that match a repository. Returns the first of them, which applies to it.
fn visit<'a>(
    rules: &[RetentionRule],
    matches: &'a mut [Matches],
    repository: &RepositoryName,
) -> Option<&'a mut Matches> {
    let mut applied = None;
    for (rule, state) in rules.iter().zip(matches) {
        if rule.names(repository) {
            state.is_named = true;
            if applied.is_none() {
                state.applies = true;
                applied = Some(state);
            }
        }
    }
    applied
}

fn sentences(rule: &RetentionRule, matches: &Matches, is_certain: bool) -> Vec<String> {
    let patterns: Vec<String> = rule.repositories.iter().map(ToString::to_string).collect();
    let named = format!("[[retention]] for {}", patterns.join(", "));
    if !matches.is_named {
        return vec![format!("{named} matches no repository")];
    }
    if !matches.applies {
        return vec![format!(
            "{named} applies to no repository: earlier rules match all of its repositories"
        )];
    }
    let unmatched = matches.tags.iter().filter(|_| is_certain);
    unmatched.map(|pattern| format!("{named}: {pattern} in keep_tags matches no tag")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::test_store::TestStore;
    use super::*;

    fn rule(repositories: &[&str], tags: &[&str]) -> RetentionRule {
        let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::from((*text).to_owned())).collect();
        RetentionRule {
            repositories: patterns(repositories),
            tags: patterns(tags),
            ..RetentionRule::default()
        }
    }

    #[tokio::test]
    async fn rules_that_match_nothing_are_named() {
        let test = TestStore::open().await;
        let rules = [
            rule(&["ci/*"], &["v*", "rel-*"]),
            rule(&["ci/app"], &[]),
            rule(&["prdo/*", "stagng"], &["*"]),
            rule(&["*"], &["latest"]),
        ];
        assert_eq!(test.store.unmatched_rules(&rules).await.unwrap(), None, "an empty registry");
        for (repository, tag) in [("ci/app", "v1"), ("web", "latest")] {
            test.push_image(repository, &[tag], tag.as_bytes(), None).await;
        }
        assert_eq!(
            test.store.unmatched_rules(&rules).await.unwrap().unwrap(),
            [
                "[[retention]] for ci/*: rel-* in keep_tags matches no tag",
                "[[retention]] for ci/app applies to no repository: earlier rules match all of its repositories",
                "[[retention]] for prdo/*, stagng matches no repository",
            ]
        );
    }
}
