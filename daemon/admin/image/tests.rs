use std::fmt::Write;

use super::super::worst_case;
use super::*;
use crate::oci::{Attachment, Signer};

/// A manifest with more of everything than a page shows, each text the longest of its kind.
fn manifest(text: &str, is_index: bool) -> Vec<u8> {
    let text = serde_json::to_string(text).unwrap();
    let digest = worst_case::digest();
    let annotations = |count: usize| {
        let mut pairs = format!("\"org.opencontainers.image.title\":{text}");
        (0..count).for_each(|number| write!(pairs, ",\"{number}{}:{text}", &text[1..]).unwrap());
        pairs
    };
    let (few, many) = (annotations(3), annotations(60));
    let descriptor = format!(
        "{{\"digest\":\"{digest}\",\"size\":1098437885952,\"mediaType\":{text},\"artifactType\":{text},\
         \"annotations\":{{{few}}},\"platform\":{{\"os\":{text},\"architecture\":\"x\"}}}}"
    );
    let parts = vec![descriptor.as_str(); 60].join(",");
    let list = if is_index { "manifests" } else { "layers" };
    format!(
        "{{\"{list}\":[{parts}],\"annotations\":{{{many}}},\"artifactType\":{text},\"subject\":{descriptor}}}"
    )
    .into_bytes()
}

fn config(text: &str) -> ImageConfig {
    let list = serde_json::to_string(&vec![text; 60]).unwrap();
    let steps = vec![serde_json::json!({"created_by": text, "empty_layer": true}); 60];
    let labels: serde_json::Map<String, serde_json::Value> =
        (0..60).map(|number| (format!("{number}{text}"), text.into())).collect();
    let config = serde_json::json!({"os": text, "history": steps, "config": {"Labels": labels}}).to_string();
    ImageConfig::parse(config.replacen("{\"Labels\"", &format!("{{\"Env\":{list},\"Labels\""), 1).as_bytes())
}

/// The page as [`super::page`] makes it, without a store.
fn worst_page(view: View, text: &str, is_index: bool) -> Page {
    let manifest = manifest(text, is_index);
    let (contents, config) = (ManifestView::parse(&manifest), config(text));
    let media_type = if is_index {
        "application/vnd.oci.image.index.v1+json".to_owned()
    } else {
        format!("application/{}", "'".repeat(243))
    };
    let entry = ManifestEntry {
        digest: worst_case::digest(),
        size: u64::MAX,
        media_type: media_type.parse().unwrap(),
        pushed: 0,
    };
    let states = vec![ContentState::Damaged; 60];
    let (mut platforms, layers) = platforms_or_layers(view, &entry, &contents, &states);
    for child in &mut platforms.rows {
        child.size = Some("more than 1023.9 GiB".into());
    }
    let annotations = (contents.annotations.pairs.as_slice(), contents.annotations.more);
    let mut referrers = ManifestView::parse(&self::manifest(text, false)).layers.items;
    referrers.truncate(REFERRERS);
    Page {
        presence: Some("18446744073709551615 of 18446744073709551615 platforms here".into()),
        title: format!("{}:{}", worst_case::name(0), worst_case::tag(0)),
        damage: Some("d".repeat(140)),
        attached: vec![worst_case::tag(0).to_string(); 4],
        may_copy: true,
        badges: Badges {
            is_signed: true,
            attached: "SBOM, provenance, attestation".into(),
            is_damaged: true,
        },
        frame: worst_case::frame(),
        is_overview: view.is_overview(),
        name: worst_case::name(0).to_string(),
        digest: entry.digest.to_string(),
        short: short_digest(&entry.digest),
        pulls: pull_commands(
            &format!("[{}]/{}", "h".repeat(260), worst_case::name(0)),
            &format!("@{}", entry.digest),
            Pulled::Image,
            &[Signer::Cosign, Signer::Notation].map(Attachment::Signature).into(),
        ),
        download: format!("@{}", entry.digest),
        media_type: entry.media_type.to_string(),
        kind: kind(&entry, None),
        artifact: Some(shorten(text, TEXT)),
        platform: Some(shorten(&config.platform().to_string(), TEXT)),
        size: "more than 1023.9 GiB".into(),
        pushed: When::at(0),
        created: Some(When::at(0)),
        tags: view.section(
            List::Tags,
            (0..100).map(|at| worst_case::tag(at).to_string()).collect(),
            1_000_000,
        ),
        all_tags: 1_000_000,
        platforms,
        layers,
        settings: artifact::settings(view, &config),
        history: artifact::history(view, &contents, &config),
        labels: artifact::pairs(view, List::Labels, config.labels()),
        annotations: artifact::pairs(view, List::Annotations, annotations),
        subject: Some((entry.digest.to_string(), short_digest(&entry.digest))),
        referrers: view.section(List::Referrers, referrers, 1_000_000).map(|part| referrer(&part)),
        referrers_incomplete: false,
        excerpt: manifest_excerpt(&manifest, EXCERPT),
        too_large: Some("configuration"),
        config: Some(entry.digest.to_string()),
        may_delete: true,
    }
}

#[test]
fn largest_overview_is_small() {
    for text in worst_case::texts() {
        for is_index in [false, true] {
            let page = worst_page(View::overview(), &text, is_index);
            assert_eq!(page.labels.rows.len(), List::Labels.overview_rows());
            assert_eq!(page.annotations.rows.len(), List::Annotations.overview_rows());
            assert_eq!(page.history.rows.len(), List::History.overview_rows());
            assert_eq!(page.settings.rows[0].values.len(), List::Settings.overview_rows());
            let parts = if is_index { page.platforms.rows.len() } else { page.layers.rows.len() };
            let list = if is_index { List::Platforms } else { List::Layers };
            assert_eq!(parts, list.overview_rows());
            worst_case::assert_small(&page);
        }
    }
}

#[test]
fn largest_page_of_each_list_is_small() {
    for text in worst_case::texts() {
        for list in [List::Tags, List::Layers, List::Settings, List::Labels, List::Annotations] {
            worst_case::assert_small(&worst_page(View::alone(list), &text, false));
        }
        for list in [List::Referrers, List::History, List::Platforms] {
            worst_case::assert_small(&worst_page(View::alone(list), &text, true));
        }
    }
}
