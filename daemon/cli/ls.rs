//! `holdfast ls`: repositories, the tags of one, or the platforms of an image.

use std::cmp::Reverse;

use clap::Args;
use form_urlencoded::Serializer;
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::failure::Failure;
use super::format::{columns, count, short_digest, size, time};
use super::name::ImageName;
use super::output::{json_text, print};
use super::owner::{Access, Client, Event, Invocation, with_owner};
use crate::config::Config;
use crate::control::{ImageDetails, RepositoryItem, TagItem};
use crate::store::describe_tags;

#[derive(Args)]
pub(super) struct Options {
    /// Repository whose tags to list, or image whose platforms to list [default: all repositories]
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists repositories, tags or platforms.
pub(super) fn run(options: &Options, config: &Config, invocation: &Invocation) -> Result<(), Failure> {
    let name = options.name.as_deref().map(ImageName::parse).transpose()?;
    let text = with_owner(config, invocation, Access::Any, async |client| match &name {
        None => {
            let list = items::<RepositoryItem>(client, "repositories").await?;
            Ok(if options.json { json_text(&json!({ "repositories": list })) } else { repositories(&list) })
        }
        Some(ImageName { repository, reference: None }) => {
            let list = tags(client, repository.as_str(), None).await?;
            if options.json {
                return Ok(json_text(&json!({ "repository": repository.as_str(), "tags": list })));
            }
            if list.is_empty() {
                let path = format!("repositories?{}", query(&[("repository", repository.as_str())]));
                let found = items::<RepositoryItem>(client, &path).await?;
                return Ok(found.first().map(without_tags).unwrap_or_default());
            }
            Ok(tag_table(&list))
        }
        Some(ImageName { repository, reference: Some(reference) }) => {
            let query = query(&[("repository", repository.as_str()), ("reference", &reference.to_string())]);
            let details = client.request(Method::GET, &format!("image?{query}"), None::<&()>).await?;
            if options.json {
                return Ok(json_text(&details));
            }
            Ok(image(&serde_json::from_value(details).map_err(Failure::failed)?))
        }
    })?;
    print(&text)
}

/// Returns the tags of a repository, newest first; with `tag` only that one, if it exists.
pub(super) async fn tags(
    client: &mut Client,
    repository: &str,
    tag: Option<&str>,
) -> Result<Vec<TagItem>, Failure> {
    let mut pairs = vec![("repository", repository)];
    pairs.extend(tag.map(|tag| ("tag", tag)));
    let mut list: Vec<TagItem> = items(client, &format!("names?{}", query(&pairs))).await?;
    sort_newest_first(&mut list);
    Ok(list)
}

/// Sorts tags by the time at which they were set, the newest first; of one second by their sequence numbers.
fn sort_newest_first(list: &mut [TagItem]) {
    list.sort_by_key(|one| Reverse((one.pushed, one.order)));
}

/// Returns the items of a list.
pub(super) async fn items<T: DeserializeOwned>(client: &mut Client, path: &str) -> Result<Vec<T>, Failure> {
    let (mut list, mut failed) = (Vec::new(), None);
    let mut observe = |event| match event {
        Event::Item(item) => match serde_json::from_value(item) {
            Ok(item) => list.push(item),
            Err(error) => failed = Some(Failure::failed(error)),
        },
        Event::Progress(_) => {}
    };
    client.stream(Method::GET, path, None::<&()>, &mut observe).await?;
    failed.map_or(Ok(list), Err)
}

fn query(pairs: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn repositories(list: &[RepositoryItem]) -> String {
    if list.is_empty() {
        return "the registry is empty\n".into();
    }
    let row = |one: &RepositoryItem| {
        let tags = match one.tags {
            0 => describe_tags(0, one.manifests, one.emptied),
            tags => tags.to_string(),
        };
        vec![one.repository.clone(), tags, size(one.size), time(one.pushed)]
    };
    columns(&["REPOSITORY", "TAGS", "SIZE", "LAST PUSH"], list.iter().map(row))
}

/// Describes a repository that has no tags.
fn without_tags(one: &RepositoryItem) -> String {
    let RepositoryItem { repository, manifests, emptied, .. } = one;
    let described = describe_tags(0, *manifests, *emptied);
    match emptied {
        Some(_) => {
            format!("{repository} is {described}; {} for a collection\n", count_waiting(*manifests))
        }
        None => format!("{repository} has no tags: {described}\n"),
    }
}

fn count_waiting(manifests: u64) -> String {
    format!("{} {}", count(manifests, "manifest"), if manifests == 1 { "waits" } else { "wait" })
}

fn tag_table(list: &[TagItem]) -> String {
    let row = |one: &TagItem| {
        let more = if one.size_is_more { ">" } else { "" };
        vec![
            one.tag.clone(),
            format!("{more}{}", size(one.size)),
            one.platforms.join(","),
            time(one.pushed),
            short_digest(&one.digest),
        ]
    };
    columns(&["TAG", "SIZE", "PLATFORMS", "PUSHED", "DIGEST"], list.iter().map(row))
}

fn image(details: &ImageDetails) -> String {
    let mut rows = vec![
        vec!["repository".to_owned(), details.repository.clone()],
        vec!["digest".to_owned(), details.digest.clone()],
        vec!["media type".to_owned(), details.media_type.clone()],
    ];
    rows.extend(details.artifact_type.clone().map(|kind| vec!["artifact".to_owned(), kind]));
    rows.push(vec!["tags".to_owned(), details.tags.join(" ")]);
    rows.push(vec!["size".to_owned(), size(details.size)]);
    rows.push(vec!["pushed".to_owned(), format!("{} UTC", time(details.pushed))]);
    rows.extend(details.layers.map(|layers| vec!["layers".to_owned(), layers.to_string()]));
    let mut text = columns(&[], rows.into_iter());
    if !details.platforms.is_empty() {
        let row = |one: &crate::control::PlatformDetails| {
            vec![
                one.platform.clone().unwrap_or_else(|| "-".into()),
                one.size.map_or_else(|| "not stored".into(), size),
                one.digest.clone(),
            ]
        };
        text.push('\n');
        text += &columns(&["PLATFORM", "SIZE", "DIGEST"], details.platforms.iter().map(row));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_a_row_each() {
        let tag = TagItem {
            repository: "a".into(),
            tag: "1.4".into(),
            digest: format!("sha256:{}", "a".repeat(64)),
            media_type: String::new(),
            size: 3 << 29,
            size_is_more: false,
            pushed: 1_764_102_667,
            order: 1,
            platforms: vec!["linux/amd64".into(), "linux/\u{1b}[31m".into()],
            shared: None,
        };
        let expected = "TAG  SIZE     PLATFORMS                PUSHED            DIGEST\n\
            1.4  1.5 GiB  linux/amd64,linux/\u{fffd}[31m  2025-11-25 20:31  sha256:aaaaaaaaaaaa\n";
        assert_eq!(tag_table(std::slice::from_ref(&tag)), expected);
        let set_at = |name: &str, pushed, order| TagItem { tag: name.into(), pushed, order, ..tag.clone() };
        let mut list = [set_at("b", 5, 7), set_at("a", 5, 9), set_at("d", 4, 10), set_at("c", 6, 1)];
        sort_newest_first(&mut list);
        assert_eq!(list.map(|tag| tag.tag), ["c", "a", "b", "d"]);
    }

    #[test]
    fn repository_without_tags_says_why() {
        let one = |emptied| RepositoryItem {
            repository: "a".into(),
            tags: 0,
            manifests: 2,
            size: 11,
            pushed: 1_764_102_667,
            emptied,
        };
        let (emptied, untagged) = (one(Some(1_764_102_667)), one(None));
        assert_eq!(
            without_tags(&emptied),
            "a is empty, removed on 2025-11-25; 2 manifests wait for a collection\n"
        );
        assert_eq!(without_tags(&untagged), "a has no tags: 2 untagged\n");
        let list = repositories(&[emptied, untagged]);
        assert!(list.contains("a           empty, removed on 2025-11-25  11 B"), "{list}");
        assert!(list.contains("a           2 untagged                    11 B"), "{list}");
    }

    #[test]
    fn image_has_its_platforms() {
        let details = ImageDetails {
            repository: "a".into(),
            digest: "sha256:x".into(),
            media_type: "m".into(),
            artifact_type: None,
            tags: vec!["1".into(), "2".into()],
            size: 11,
            pushed: 1_764_102_667,
            layers: None,
            platforms: vec![crate::control::PlatformDetails {
                platform: Some("linux/arm64".into()),
                digest: "sha256:y".into(),
                size: None,
            }],
        };
        let text = image(&details);
        assert!(text.contains("tags        1 2\n") && !text.contains("layers"), "{text}");
        assert!(text.ends_with("linux/arm64  not stored  sha256:y\n"), "{text}");
    }
}
