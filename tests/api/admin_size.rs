//! Pages stay below 60 KiB and their memory stays bounded, whatever was pushed; every row is reached by paging.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::images::{CONFIG, LAYER};
use crate::support::*;

/// The bound of a page with its style sheet and script, in bytes.
const LARGEST: usize = 60 << 10;
/// A character that takes five bytes in HTML.
const WORST: &str = "\"";

/// Returns a repository name of 253 characters.
fn long_name(number: usize) -> String {
    format!("{number:03}/{}", "a/".repeat(124) + "b")
}

/// Returns the length of all files of a page, each once, as browsers load them: compressed.
pub fn assets(browser: &mut Browser) -> usize {
    let page = browser.page("/");
    let names = page.split("/assets/").skip(1).map(|rest| rest.split(['"', '#']).next().unwrap());
    let names: BTreeSet<&str> = names.collect();
    let load = |name: &str| {
        browser.request("GET", &format!("/assets/{name}")).header("Accept-Encoding", "gzip").send()
    };
    names.into_iter().map(|name| load(name).expect(200).body.len()).sum()
}

/// Loads a page and checks its size.
#[track_caller]
fn check(browser: &mut Browser, path: &str) -> String {
    let all = assets(browser);
    let page = browser.page(path);
    println!("{} {}", page.len(), &path[..path.len().min(80)]);
    assert!(page.len() + all < LARGEST, "{path} has {} bytes and {all}", page.len());
    page
}

/// Loads all pages of one list of an image, and returns them joined.
#[track_caller]
fn every_page(browser: &mut Browser, image: &str, list: &str) -> String {
    let (mut all, mut query) = (String::new(), format!("?list={list}"));
    for _ in 0..20 {
        let page = check(browser, &format!("{image}{query}"));
        let next = page.split("id=\"next\" href=\"").nth(1).map(|rest| rest.split('"').next().unwrap());
        query = next.unwrap_or_default().replace("&#38;", "&");
        all += &page;
        if query.is_empty() {
            return all;
        }
    }
    panic!("{list} has no last page");
}

fn push(daemon: &Daemon, name: &str, tags: &[String], config: &Value, manifest: &Value) -> String {
    let config = serde_json::to_vec(config).unwrap();
    let mut whole = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
        "config": {"mediaType": CONFIG, "digest": daemon.push_blob(name, &config), "size": config.len()},
    });
    for (key, value) in manifest.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let bytes = serde_json::to_vec(&whole).unwrap();
    for tag in tags {
        daemon.put_manifest(name, tag, OCI_MANIFEST, &bytes).expect(201);
    }
    digest(&bytes)
}

fn layers(daemon: &Daemon, name: &str, count: usize, more: &Value) -> Vec<Value> {
    let layer = |number: usize| {
        let content = vec![7; number + 1];
        let mut layer =
            json!({"mediaType": LAYER, "digest": daemon.push_blob(name, &content), "size": number + 1});
        if let Some(annotations) = more.get("annotations") {
            layer["annotations"] = annotations.clone();
        }
        layer
    };
    (0..count).map(layer).collect()
}

#[test]
fn large_image_is_shown_with_every_layer_label_and_setting() {
    let daemon = Daemon::start();
    let command =
        |number: usize| format!("RUN step-{number} && {}", "apt-get install \"-y\" some-package ".repeat(10));
    let history: Vec<Value> = (0..40).map(|number| json!({"created_by": command(number)})).collect();
    let label = |number: usize| {
        (format!("org.example.label-{number}"), format!("the value of label {number}, as they are"))
    };
    let labels: std::collections::BTreeMap<String, String> = (0..30).map(label).collect();
    let env: Vec<String> =
        (0..21).map(|number| format!("VARIABLE_{number}=/usr/local/some/path/{number}")).collect();
    let config = json!({"os": "linux", "architecture": "arm64", "history": history,
        "config": {"Labels": labels, "Env": env, "Entrypoint": ["/run"]}});
    let manifest = json!({"layers": layers(&daemon, "team/service", 40, &json!({}))});
    push(&daemon, "team/service", &["1.2.3".into(), "latest".into()], &config, &manifest);
    let mut browser = Browser::new(&daemon);
    let image = "/image/team/service:1.2.3";
    let overview = check(&mut browser, image);
    let page = every_page(&mut browser, image, "history");
    for number in 0..40 {
        assert_eq!(
            page.matches(&format!("RUN step-{number} &#38;&#38; apt-get install")).count(),
            1,
            "{page}"
        );
        assert!(page.contains(&format!(">{} B</td>", number + 1)), "{page}");
    }
    let labels = every_page(&mut browser, image, "labels");
    for number in 0..30 {
        assert!(labels.contains(&format!("the value of label {number}, as they are")), "{labels}");
    }
    let settings = every_page(&mut browser, image, "config");
    assert!(
        (0..21).all(|number| settings.contains(&format!("/usr/local/some/path/{number}<"))),
        "{settings}"
    );
    for shown in ["RUN step-8 ", "the value of label 0, as", "/usr/local/some/path/9<"] {
        assert!(overview.contains(shown), "the overview has many rows: {overview}");
    }
    let link = overview.split("id=\"raw-config\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(browser.page(link).contains("RUN step-39"), "the complete configuration");
}

#[test]
fn largest_content_is_shown_in_pages() {
    let daemon = Daemon::start();
    let name = long_name(0);
    let long = WORST.repeat(1000);
    let many = |count: usize| {
        let pair = |number: usize| (format!("{number}{}", WORST.repeat(200)), Value::from(long.clone()));
        Value::Object((0..count).map(pair).collect())
    };
    let texts = |count: usize| vec![Value::from(long.clone()); count];
    let history: Vec<Value> = (0..100).map(|_| json!({"created_by": long})).collect();
    let config = json!({"os": long, "architecture": long, "created": long, "history": history, "config": {
        "Labels": many(100), "Env": texts(60), "Cmd": texts(2), "Entrypoint": texts(2), "User": long,
        "WorkingDir": long, "ExposedPorts": many(5), "Volumes": many(5)}});
    let tags: Vec<String> = (0..60).map(|number| format!("{number:03}{}", "x".repeat(125))).collect();
    let title = json!({"annotations": {"org.opencontainers.image.title": "\"".repeat(500)}});
    let part = |number: usize| {
        json!({"mediaType": OCI_MANIFEST, "digest": digest(&number.to_le_bytes()), "size": 1,
            "platform": {"os": "\"".repeat(500), "architecture": "x"}})
    };
    let manifest = json!({
        "layers": layers(&daemon, &name, 120, &title), "annotations": many(60),
        "manifests": (0..300).map(part).collect::<Vec<Value>>(),
    });
    let image = push(&daemon, &name, &tags, &config, &manifest);
    for number in 0..30 {
        let artifact = json!({"artifactType": "\"".repeat(500), "annotations": many(3), "number": number,
            "subject": {"mediaType": OCI_MANIFEST, "digest": image, "size": 1}});
        push(&daemon, &name, &[format!("a{number}")], &json!({}), &artifact);
    }
    for number in 1..90 {
        daemon.push_image(&long_name(number), &tags[0], b"layer");
    }
    let mut browser = Browser::new(&daemon);
    let path = format!("/image/{name}:{}", tags[0]);
    let page = check(&mut browser, &path);
    for (list, row, count) in [
        ("tags", "<li><a href=\"/image/", 60),
        ("layers", "data-label=\"No.\"", 120),
        ("config", "<code>", 60 + 4 + 5 + 5),
        ("labels", "<dt>", 100),
        ("annotations", "<dt>", 60),
        ("referrers", "<th scope=\"row\">", 20),
        ("history", "data-label=\"No.\"", 100),
    ] {
        assert!(page.contains(&format!("<a href=\"?list={list}\">")), "{list}: {page}");
        let rows = every_page(&mut browser, &path, list);
        let rows = rows.split("<main").skip(1).map(|main| main.split("</main>").next().unwrap());
        assert_eq!(rows.map(|main| main.matches(row).count()).sum::<usize>(), count, "{list}");
    }
    let alone = check(&mut browser, &format!("{path}?list=layers"));
    for part in ["<a href=\"/raw/", ">manifest</a>", ">configuration</a>"] {
        assert!(alone.contains(part), "{alone}");
    }
    let alone = check(&mut browser, &format!("{path}?list=referrers"));
    assert!(alone.contains("And 10 more") && alone.contains("/referrers/sha256:"), "{alone}");
    check(&mut browser, &format!("/image/{name}:a1"));
    check(&mut browser, "/");
    check(&mut browser, "/activity");
    check(&mut browser, &format!("/activity?q={}", "%22".repeat(2000)));
    check(&mut browser, &format!("/repository/{name}"));
    check(&mut browser, &format!("/repository/{name}?sort=pushed&dir=down&q=x"));
    let mut confirmation = format!("/delete?name={name}");
    tags.iter().for_each(|tag| write!(confirmation, "&tag={tag}").unwrap());
    assert!(check(&mut browser, &confirmation).contains("20 more were selected"));
}

#[test]
fn check_with_many_faults_is_shown_in_pages() {
    let daemon = Daemon::start();
    for number in 0..90 {
        daemon.push_image(&long_name(number), "1", b"layer");
    }
    // One corrupt manifest, which all repositories share, is a fault in each of them.
    let (digest, manifest) = daemon.push_image(&long_name(90), "1", b"layer");
    let (algorithm, hex) = digest.split_once(':').unwrap();
    let file = daemon.data.join("blobs").join(algorithm).join(hex);
    std::fs::write(file, vec![b'x'; manifest.len()]).unwrap();
    let mut browser = Browser::new(&daemon);
    browser.page("/maintenance");
    browser.post("/maintenance/check", &[]).expect(303);
    while !browser.page("/maintenance").contains("id=\"outcome\"") {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let page = check(&mut browser, "/maintenance");
    assert!(
        page.contains(" faults found") && page.contains("<li>and ") && page.contains(" more</ul>"),
        "{page}"
    );
    let next = check(&mut browser, "/maintenance?page=2");
    assert!(next.contains("aria-label=\"Page 2 of ") && next.contains("<ul id=\"faults\"><li>"), "{next}");
}

#[test]
fn long_names_are_reached_by_paging_in_a_tree_of_four_levels() {
    let daemon = Daemon::start();
    for number in 0..90 {
        daemon.push_image(&long_name(number / 2).replace('b', &format!("b{}", number % 2)), "1", b"layer");
    }
    let mut browser = Browser::new(&daemon);
    let mut seen = 0;
    for dir in ["up", "down"] {
        let mut path = format!("/repositories?dir={dir}");
        loop {
            let page = check(&mut browser, &path);
            let (mut depth, mut deepest) = (0, 0);
            for tag in page.split('<') {
                depth += usize::from(tag.starts_with("details "));
                depth -= usize::from(tag.starts_with("/details"));
                deepest = deepest.max(depth);
            }
            assert_eq!(deepest, 4, "{path}");
            assert!(page.contains(">2 repositories<"), "{page}");
            seen += page.matches("class=\"row\"").count();
            let Some(rest) = page.split("id=\"next\" href=\"").nth(1) else { break };
            path = rest.split('"').next().unwrap().replace("&#38;", "&");
        }
    }
    assert_eq!(seen, 2 * 90);
    for path in ["/repositories?sort=size", "/repositories?q=a/b", "/repositories?sort=%22%22%22&q=%22"] {
        check(&mut browser, path);
    }
    check(&mut browser, &format!("/repositories?q={0}&sort={0}", "%22".repeat(2000)));
}

#[test]
fn many_users_are_on_several_pages() {
    let daemon = Daemon::with_user("alice", "secret", &[]);
    let file = daemon.data.join("htpasswd");
    let lines = std::fs::read_to_string(&file).unwrap();
    let hash = lines.trim().split_once(':').unwrap().1.to_owned();
    let others = (0..150).map(|number| format!("{number:03}{}:{hash}\n", "@".repeat(61)));
    std::fs::write(&file, lines + &others.collect::<String>()).unwrap();
    let mut browser = Browser::of(&daemon, "alice", "secret");
    let shown: usize = (1..=6)
        .map(|page| {
            let page = check(&mut browser, &format!("/users?page={page}"));
            page.split("<tbody>").nth(1).unwrap().split("</tbody>").next().unwrap().matches("<tr>").count()
        })
        .sum();
    assert_eq!(shown, 151);
    browser.get("/users?page=1000000000000000000000").expect(200);
}

#[test]
fn size_of_too_many_blobs_is_a_lower_bound() {
    let daemon = Daemon::start();
    let config = daemon.push_blob("a", b"{}");
    let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    // Ten of these images reference more blobs than a page adds up.
    let images: Vec<(String, usize)> = (0..11u32)
        .map(|number| {
            let layer = |layer: u32| {
                let digest = digest(&[number.to_le_bytes(), layer.to_le_bytes()].concat());
                json!({"mediaType": foreign, "digest": digest, "size": 1})
            };
            let layers: Vec<Value> = (0..9990).map(layer).collect();
            let image = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": layers,
                "config": {"mediaType": CONFIG, "digest": config, "size": 2}});
            let bytes = serde_json::to_vec(&image).unwrap();
            daemon.put_manifest("a", &format!("t{number:02}"), OCI_MANIFEST, &bytes).expect(201);
            (digest(&bytes), bytes.len())
        })
        .collect();
    let mut browser = Browser::new(&daemon);
    let page = browser.page("/repository/a");
    assert!(page.contains("more than"), "{page}");
    let page = browser.page("/image/a:t00");
    assert!(!page.contains("more than"), "a single image is added up: {page}");
    let part =
        |(digest, size): &(String, usize)| json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": images.iter().map(part).collect::<Vec<_>>()});
    daemon.put_manifest("a", "all", OCI_INDEX, &serde_json::to_vec(&index).unwrap()).expect(201);
    assert!(browser.page("/image/a:all").contains("more than"));
}
