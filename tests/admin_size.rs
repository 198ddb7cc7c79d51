//! The pages stay small, and what they take in memory does too, whatever strangers have pushed.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::support::browser::{Browser, text};
use crate::support::images::{CONFIG, LAYER};
use crate::support::*;

/// What a page has in all, with its style sheet and script.
const LARGEST: usize = 60 << 10;
/// What is worst in HTML: five bytes for one.
const WORST: &str = "\"";

/// A name of 253 characters.
fn long_name(number: usize) -> String {
    format!("{number:03}/{}", "a/".repeat(124) + "b")
}

fn assets(browser: &mut Browser) -> usize {
    let page = browser.page("/");
    let names = page.split("/assets/").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    let names: Vec<String> = names.collect();
    names.iter().map(|name| browser.get(&format!("/assets/{name}")).expect(200).body.len()).sum()
}

#[track_caller]
fn check(browser: &mut Browser, path: &str) -> String {
    let all = assets(browser);
    let page = browser.page(path);
    println!("{} {}", page.len(), &path[..path.len().min(80)]);
    assert!(page.len() + all < LARGEST, "{path} has {} bytes and {all}", page.len());
    page
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
fn a_large_image_is_shown_with_all_its_layers() {
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
    let page = check(&mut browser, "/image/team/service:1.2.3");
    for number in 0..40 {
        assert_eq!(
            page.matches(&format!("RUN step-{number} &#38;&#38; apt-get install")).count(),
            1,
            "{page}"
        );
        assert!(page.contains(&format!(">{} B</td>", number + 1)), "{page}");
    }
    for number in 0..30 {
        assert!(page.contains(&format!("the value of label {number}, as they are")), "{page}");
    }
    assert!((0..21).all(|number| page.contains(&format!("/usr/local/some/path/{number}<"))), "{page}");
    let link = page.split("id=\"raw-config\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(browser.page(link).contains("RUN step-39"), "nothing is lost");
}

#[test]
fn what_does_not_fit_is_counted() {
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
    let page = check(&mut browser, &format!("/image/{name}:{}", tags[0]));
    for part in ["more, in <a href=\"/raw/", "the configuration</a>.", "the manifest</a>."] {
        assert!(page.contains(part), "{page}");
    }
    check(&mut browser, &format!("/image/{name}:a1"));
    check(&mut browser, "/");
    check(&mut browser, "/activity");
    check(&mut browser, &format!("/activity?q={}", "%22".repeat(2000)));
    check(&mut browser, &format!("/repository/{name}"));
    check(&mut browser, &format!("/repository/{name}?sort=pushed&dir=down&q=x"));
    let mut question = format!("/delete?name={name}");
    tags.iter().for_each(|tag| write!(question, "&tag={tag}").unwrap());
    assert!(check(&mut browser, &question).contains("20 more were selected"));
}

#[test]
fn a_check_that_finds_much_is_shown_in_part() {
    let daemon = Daemon::start();
    for number in 0..90 {
        daemon.push_image(&long_name(number), "1", b"layer");
    }
    // All of them have the same manifest.
    let (digest, manifest) = daemon.push_image(&long_name(90), "1", b"layer");
    let (algorithm, hex) = digest.split_once(':').unwrap();
    let file = daemon.data.join("blobs").join(algorithm).join(hex);
    std::fs::write(file, vec![b'x'; manifest.len()]).unwrap();
    let mut browser = Browser::new(&daemon);
    browser.page("/upkeep");
    browser.post("/upkeep/check", &[]).expect(303);
    while !browser.page("/upkeep").contains("id=\"outcome\"") {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let page = check(&mut browser, "/upkeep");
    assert!(
        page.contains(" faults found") && page.contains("<li>and ") && page.contains(" more</ul>"),
        "{page}"
    );
}

#[test]
fn a_list_of_long_names_has_more_pages_and_is_no_deep_tree() {
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

/// The list of referrers that a client keeps under a tag is read by the API, too.
#[test]
fn many_users_are_on_several_pages() {
    let daemon = Daemon::with_user("alice", "secret", &[]);
    let file = daemon.data.join("htpasswd");
    let lines = std::fs::read_to_string(&file).unwrap();
    let hash = lines.trim().split_once(':').unwrap().1.to_owned();
    let others = (0..150).map(|number| format!("{number:03}{}:{hash}\n", "@".repeat(61)));
    std::fs::write(&file, lines + &others.collect::<String>()).unwrap();
    let mut browser = Browser::of(&daemon, "alice", "secret");
    let shown: usize = (1..=4)
        .map(|page| {
            let page = check(&mut browser, &format!("/users?page={page}"));
            page.split("<tbody>").nth(1).unwrap().split("</tbody>").next().unwrap().matches("<tr>").count()
        })
        .sum();
    assert_eq!(shown, 151);
    browser.get("/users?page=1000000000000000000000").expect(200);
}

#[test]
fn a_large_list_of_referrers_takes_no_more_memory_than_its_text() {
    let daemon = Daemon::start();
    let (subject, _) = daemon.push_image("a", "1", b"layer");
    let list = format!(
        "{{\"schemaVersion\":2,\"manifests\":[{{\"mediaType\":\"{OCI_MANIFEST}\",\"digest\":\"{subject}\",\"size\":1,\"platform\":["
    );
    let list = filled(&list, "0,", "0]}]}", 4_000_000);
    let before = peak(&daemon);
    daemon.put_manifest("a", &subject.replace(':', "-"), OCI_INDEX, &list).expect(201);
    assert_eq!(
        daemon.get(&format!("/v2/a/referrers/{subject}")).expect(200).json()["manifests"][0]["digest"],
        subject
    );
    let page = Browser::new(&daemon).page("/image/a:1");
    assert!(page.len() < LARGEST, "{page}");
    let more = peak(&daemon) - before;
    assert!(more < 40 << 10, "{more} KiB more than {before}");
}

/// The most memory that a daemon has used, in KiB.
fn peak(daemon: &Daemon) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.process())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Looks at an image from all sides, by six at once.
fn look(daemon: &Daemon, name: &str) {
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut browser = Browser::new(daemon);
                for path in [format!("/repository/{name}"), format!("/image/{name}:1")] {
                    assert!(text(&browser.get(&path).expect(200)).len() < LARGEST);
                }
            });
        }
    });
}

/// A manifest or configuration that is as large as can be, with one thing in it over and over.
fn filled(start: &str, item: &str, end: &str, size: usize) -> Vec<u8> {
    let count = (size - start.len() - end.len()) / item.len();
    format!("{start}{}{end}", item.repeat(count)).into_bytes()
}

fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

#[test]
fn memory_is_not_decided_by_what_is_pushed() {
    // Also where the operator allows manifests that list very much.
    let daemon = Daemon::with(&[("HOLDFAST_LIMITS_MANIFEST_DESCRIPTORS", "1000000")]);
    let config = daemon.push_blob("m", b"{}");
    let descriptor = format!("\"mediaType\":\"{CONFIG}\",\"digest\":\"{config}\",\"size\":2");
    let head = "{\"schemaVersion\":2,";
    // As large as the registry takes, and as large as is shown.
    let manifests = [4_000_000, 1_000_000].map(|most| {
        [
            filled(&format!("{head}\"config\":{{{descriptor},\"platform\":["), "0,", "0]}}", most),
            format!("{head}\"config\":{{{descriptor},\"platform\":{}}}}}", nested(most / 2 - 200))
                .into_bytes(),
            filled(
                &format!("{head}\"layers\":["),
                &format!("{{\"digest\":\"{config}\"}},"),
                &format!("{{\"digest\":\"{config}\"}}]}}"),
                most,
            ),
            filled(&format!("{head}\"annotations\":{{"), "\"a\":\"\",", "\"b\":\"\"}}", most),
        ]
    });
    let configs = [
        filled("{\"os\":[", "0,", "0]}", 1_000_000),
        filled("{\"history\":[", "{},", "{}]}", 1_000_000),
        filled("{\"config\":{\"Env\":[", "\"\",", "\"\"]}}", 1_000_000),
        format!("{{\"os\":{}}}", nested(499_000)).into_bytes(),
    ];
    let named: Vec<(String, Vec<u8>)> =
        manifests.into_iter().flatten().enumerate().map(|(at, bytes)| (format!("m{at}"), bytes)).collect();
    for (name, bytes) in &named {
        daemon.push_blob(name, b"{}");
        daemon.put_manifest(name, "1", OCI_MANIFEST, bytes).expect(201);
    }
    for (at, bytes) in configs.iter().enumerate() {
        let config = daemon.push_blob(&format!("c{at}"), bytes);
        let bytes = format!(
            "{head}\"config\":{{\"mediaType\":\"{CONFIG}\",\"digest\":\"{config}\",\"size\":2}},\"layers\":[]}}"
        );
        daemon.put_manifest(&format!("c{at}"), "1", OCI_MANIFEST, bytes.as_bytes()).expect(201);
    }
    let before = peak(&daemon);
    let names =
        named.iter().map(|(name, _)| name.clone()).chain((0..configs.len()).map(|at| format!("c{at}")));
    for name in names {
        look(&daemon, &name);
        let more = peak(&daemon) - before;
        println!("{name}: {more} KiB more than {before}");
        assert!(more < 40 << 10, "{name}: {more} KiB more than {before}");
    }
}

#[test]
fn a_size_that_is_not_added_up_to_its_end_says_so() {
    let daemon = Daemon::start();
    let config = daemon.push_blob("a", b"{}");
    let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    // Each refers to so much that ten of them are more than a page looks at.
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
    assert!(!page.contains("more than"), "one of them is added up: {page}");
    let part =
        |(digest, size): &(String, usize)| json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": images.iter().map(part).collect::<Vec<_>>()});
    daemon.put_manifest("a", "all", OCI_INDEX, &serde_json::to_vec(&index).unwrap()).expect(201);
    assert!(browser.page("/image/a:all").contains("more than"));
}
