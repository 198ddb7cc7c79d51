//! `GET repositories` and `GET names`: lists of repositories and of tags, as streams of items.

use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::body::Body;
use super::error::ControlError;
use super::events::{End, Reporter, respond};
use super::request::Request;
use crate::oci::{Pattern, RepositoryName, Tag};
use crate::store::{ListedTag, RepositoryOverview, Store, StoreError};

/// Items that one read of the store returns.
const PAGE: usize = 500;
/// Maximum length of a pattern, in bytes: no name is longer.
const MAX_PATTERN: usize = 512;

/// A repository in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryItem {
    /// The name.
    pub repository: String,
    /// The number of tags.
    pub tags: u64,
    /// The number of manifests.
    pub manifests: u64,
    /// The length of its content in bytes, each blob once.
    pub size: u64,
    /// The time of the last push, in seconds since 1970.
    pub pushed: u64,
    /// The time at which the last tag was removed, in seconds since 1970, if the manifests only wait for a collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emptied: Option<u64>,
}

/// A tag in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagItem {
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The manifest that it names.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// The length of the manifest and all content that it references, in bytes.
    pub size: u64,
    /// True if the manifest references more than was added up.
    pub size_is_more: bool,
    /// The time at which the tag was set, in seconds since 1970.
    pub pushed: u64,
    /// Its sequence number, which orders tags of one second: the later one has the greater number.
    #[serde(default)]
    pub order: u64,
    /// The platforms, as far as they are known.
    pub platforms: Vec<String>,
    /// The number of tags that name the same manifest, with this one; only if one tag was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<usize>,
}

impl From<RepositoryOverview> for RepositoryItem {
    fn from(one: RepositoryOverview) -> Self {
        RepositoryItem {
            repository: one.name.to_string(),
            tags: one.tags.into(),
            manifests: one.manifests.into(),
            size: one.bytes,
            pushed: one.pushed,
            emptied: one.emptied,
        }
    }
}

/// A pattern of names in a query; every name matches a missing one.
struct Wanted {
    text: Option<String>,
    pattern: Option<Pattern>,
}

impl Wanted {
    fn of(request: &Request, parameter: &str) -> Result<Self, ControlError> {
        let text = request.query.get(parameter).map(ToOwned::to_owned);
        if text.as_ref().is_some_and(|text| text.len() > MAX_PATTERN) {
            return Err(ControlError::malformed(format!("the parameter {parameter} is too long")));
        }
        Ok(Wanted { pattern: text.clone().map(Pattern::from), text })
    }

    fn matches(&self, name: &str) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.matches(name))
    }

    /// Returns the text that names the one wanted object; `None` for a pattern.
    fn literal(&self) -> Option<&str> {
        self.text.as_deref().filter(|text| !text.contains('*'))
    }
}

/// `GET repositories?repository=PATTERN`: an item for each repository, by name.
pub(super) fn repositories(request: &Request) -> Result<http::Response<Body>, ControlError> {
    let (wanted, store) = (Wanted::of(request, "repository")?, request.host.store().clone());
    Ok(respond(request.is_detached(), |reporter| async move {
        let wanted = Arc::new(wanted);
        let mut last: Option<String> = None;
        loop {
            let matching = Arc::clone(&wanted);
            let page = store.repositories(last, PAGE, move |name| matching.matches(name.as_str())).await?;
            last = page.items.last().filter(|_| page.more).map(ToString::to_string);
            for one in store.repositories_named(page.items).await? {
                if reporter.is_cancelled() {
                    return Ok(End::Cancelled);
                }
                reporter.item(&RepositoryItem::from(one)).await;
            }
            if last.is_none() {
                break;
            }
        }
        Ok(End::Ok(json!({})))
    }))
}

/// `GET names?repository=PATTERN&tag=PATTERN`: an item for each tag, by repository and tag, each in byte order: one pass, in
/// memory that does not grow with the list. A repository that is named without `*` has to exist.
pub(super) fn names(request: &Request) -> Result<http::Response<Body>, ControlError> {
    let (repository, tag) = (Wanted::of(request, "repository")?, Wanted::of(request, "tag")?);
    let store = request.host.store().clone();
    let one = match repository.literal() {
        Some(name) => {
            let name = name.parse::<RepositoryName>().map_err(|error| {
                ControlError::malformed(format!("{name:?} is not a repository name: {error}"))
            })?;
            if !store.has_repository(&name)? {
                return Err(StoreError::NameUnknown(name).into());
            }
            Some(name)
        }
        None => None,
    };
    Ok(respond(request.is_detached(), |reporter| async move {
        if let Some(name) = one {
            return tags(&store, &name, &tag, &reporter).await;
        }
        let (repository, mut last) = (Arc::new(repository), None);
        loop {
            let matching = Arc::clone(&repository);
            let page = store.repositories(last, PAGE, move |name| matching.matches(name.as_str())).await?;
            for name in &page.items {
                if let End::Cancelled = tags(&store, name, &tag, &reporter).await? {
                    return Ok(End::Cancelled);
                }
            }
            match page.items.last().filter(|_| page.more) {
                Some(name) => last = Some(name.to_string()),
                None => return Ok(End::Ok(json!({}))),
            }
        }
    }))
}

/// Sends the tags of a repository.
async fn tags(
    store: &Store,
    repository: &RepositoryName,
    wanted: &Wanted,
    reporter: &Reporter,
) -> Result<End, ControlError> {
    if let Some(tag) = wanted.literal() {
        // A text that no tag can be names none.
        if let Ok(tag) = tag.parse() {
            one_tag(store, repository, tag, reporter).await?;
        }
        return Ok(End::Ok(json!({})));
    }
    let mut start = Bound::Unbounded;
    loop {
        let page = page(store, repository, start, PAGE).await?;
        let is_last = page.len() < PAGE;
        start = page.last().map_or(Bound::Unbounded, |last| Bound::Excluded(last.tag.clone()));
        for listed in page {
            if reporter.is_cancelled() {
                return Ok(End::Cancelled);
            }
            if wanted.matches(listed.tag.as_str()) {
                reporter.item(&item(repository, listed, None)).await;
            }
        }
        if is_last {
            return Ok(End::Ok(json!({})));
        }
    }
}

/// Sends one tag, if it exists, with the number of tags that name its manifest.
async fn one_tag(
    store: &Store,
    repository: &RepositoryName,
    tag: Tag,
    reporter: &Reporter,
) -> Result<(), ControlError> {
    let found = page(store, repository, Bound::Included(tag.clone()), 1).await?;
    let Some(listed) = found.into_iter().next().filter(|listed| listed.tag == tag) else { return Ok(()) };
    let named = store.tags_named(repository, vec![tag]).await?;
    // It may have been deleted since.
    let shared = named.first().map_or(1, |(_, _, shared)| *shared);
    reporter.item(&item(repository, listed, Some(shared))).await;
    Ok(())
}

/// Returns a page of tags; none of a repository that was deleted since it was listed.
async fn page(
    store: &Store,
    repository: &RepositoryName,
    start: Bound<Tag>,
    limit: usize,
) -> Result<Vec<ListedTag>, StoreError> {
    match store.tags_from(repository, start, limit).await {
        Err(StoreError::NameUnknown(_)) => Ok(Vec::new()),
        listed => listed,
    }
}

fn item(repository: &RepositoryName, listed: ListedTag, shared: Option<usize>) -> TagItem {
    let ListedTag { tag, entry, order, size, summary } = listed;
    TagItem {
        repository: repository.to_string(),
        tag: tag.to_string(),
        digest: entry.digest.to_string(),
        media_type: entry.media_type.to_string(),
        size: size.bytes,
        size_is_more: size.is_more,
        pushed: entry.pushed,
        order,
        platforms: summary.platforms.clone(),
        shared,
    }
}
