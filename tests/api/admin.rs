//! The admin page, as a browser without script uses it.

use serde_json::json;

use crate::support::browser::{Browser, text};
use crate::support::images::{PAGES, config, push_image_with, tags, with_images, with_images_and_env};
use crate::support::*;

#[test]
fn log_in_returns_to_the_page_and_log_out_ends_the_session() {
    let daemon = with_images();
    let mut browser = Browser::new(&daemon);
    assert_eq!(browser.get("/").expect(303).required_header("location"), "/login");
    let to_page = browser.get("/repository/team/app?q=1").expect(303).required_header("location");
    assert_eq!(to_page, "/login?next=%2Frepository%2Fteam%2Fapp%3Fq%3D1");
    assert!(browser.page(&to_page).contains("value=\"/repository/team/app?q=1\""));
    let fields = [("name", "alice"), ("password", "wrong"), ("next", "/activity")];
    assert!(text(&browser.post("/login", &fields).expect(422)).contains("or the password is wrong"));
    let fields = [("name", "alice"), ("password", "secret"), ("next", "/activity")];
    let answer = browser.post("/login", &fields).expect(303);
    assert_eq!(answer.required_header("location"), "/activity");
    let cookie = answer.headers("set-cookie").into_iter().find(|one| !one.contains("Max-Age")).unwrap();
    assert!(
        cookie.starts_with("holdfast=") && cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    assert!(browser.page("/").contains("<span>alice</span>"));
    assert_eq!(browser.get("/login").expect(303).required_header("location"), "/");
    let old = browser.cookies.clone();
    browser.post("/logout", &[]).expect(303);
    browser.get("/").expect(303);
    browser.cookies = old;
    browser.get("/").expect(303);
}

#[test]
fn closed_registry_without_users_shows_how_to_add_one() {
    let daemon = Daemon::with_env(&[("HOLDFAST_AUTH_ANONYMOUS", "none")]);
    let mut browser = Browser::new(&daemon);
    browser.get("/").expect(303);
    assert!(browser.page("/login").contains("sudo holdfast user add NAME"));
    browser.post("/login", &[("name", "a"), ("password", "b")]).expect(422);
}

#[test]
fn open_registry_needs_no_log_in_but_adds_no_users() {
    let daemon = Daemon::start();
    push_image_with(&daemon, "team/app", &["1", "2"], &config(), &json!({}));
    let mut browser = Browser::new(&daemon);
    assert!(browser.page("/").contains("team/app"));
    browser.page("/maintenance");
    browser.post_as("/delete", &[("name", "team/app"), ("tag", "1")], "http://registry").expect(403);
    browser.delete("team/app", &["1"]).expect(303);
    assert_eq!(daemon.get("/v2/team/app/tags/list").expect(200).json()["tags"], json!(["2"]));
    // An anonymous user cannot add a user.
    browser.post("/users/add", &[("name", "eve"), ("new", "x"), ("again", "x")]).expect(303);
    assert!(!daemon.data.join("htpasswd").exists());
}

#[test]
fn pages_show_pushed_images() {
    let daemon = with_images();
    let mut browser = Browser::of(&daemon, "alice", "secret");
    let overview = browser.page("/");
    assert!(
        overview.contains("<rect class=\"ours\"") && overview.contains("/repository/team/app"),
        "{overview}"
    );
    let list = browser.page("/repositories");
    assert!(list.contains("data-fold=\"team/\"") && list.contains("2 repositories"), "{list}");
    assert!(list.contains(">app</a><span>3 tags</span>"), "{list}");
    assert!(!browser.page("/repositories?q=other").contains("team/app"));
    let sorted = browser.page("/repositories?sort=tags&dir=down");
    assert!(sorted.find("team/app").unwrap() < sorted.find("team/other").unwrap());
    let repository = browser.page("/repository/team/app");
    let place = |tag: &str| repository.find(&format!("/image/team/app:{tag}\"")).unwrap();
    assert!(place("latest") < place("1.10") && place("1.10") < place("1.9"), "the newest first");
    let repository = browser.page("/repository/team/app?sort=name");
    let place = |tag: &str| repository.find(&format!("/image/team/app:{tag}\"")).unwrap();
    assert!(place("1.9") < place("1.10") && place("1.10") < place("latest"));
    for shown in ["linux/arm/v7", "2 more tags", "docker pull registry/team/app:"] {
        assert!(repository.contains(shown), "{shown} is not in {repository}");
    }
    let image = browser.page("/image/team/app:1.10");
    for shown in [
        "COPY app /bin/app",
        "/bin/app --all",
        "COLOUR=green",
        "8080/tcp",
        "app:app",
        "/data",
        "vendor",
        "hand-made",
        "linux/arm/v7",
        "sha256:",
        ">1.9</a>, <a",
        "schemaVersion",
        "72 B",
    ] {
        assert!(image.contains(shown), "{shown} is not in {image}");
    }
    let activity = browser.page("/activity");
    assert!(activity.contains("pushed") && activity.contains("127.0.0.1"));
    assert!(browser.page("/push").contains("docker tag hello-world registry/hello:1"));
}

#[test]
fn index_shows_its_platforms_and_artifact_its_type() {
    let daemon = Daemon::start();
    let one = push_image_with(&daemon, "multi", &[], &config(), &json!({}));
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": one, "size": 1, "platform": {"os": "linux", "architecture": "arm64"}},
        {"mediaType": OCI_MANIFEST, "digest": digest(b"gone"), "size": 1,
            "platform": {"os": "linux", "architecture": "riscv64"}},
    ]});
    daemon.put_manifest("multi", "1", OCI_INDEX, &serde_json::to_vec(&index).unwrap()).expect(201);
    push_image_with(
        &daemon,
        "multi",
        &[],
        &json!({}),
        &json!({
            "artifactType": "application/spdx+json",
            "subject": {"mediaType": OCI_MANIFEST, "digest": one, "size": 1},
        }),
    );
    let helm = json!({"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json",
        "digest": daemon.push_blob("chart", b"{}"), "size": 2}});
    push_image_with(&daemon, "chart", &["1.0.0"], &json!({}), &helm);
    let mut browser = Browser::new(&daemon);
    let page = browser.page("/image/multi:1");
    assert!(page.contains(&format!("/image/multi@{one}\">linux/arm64")), "{page}");
    assert!(page.contains("linux/riscv64") && page.contains("not in this repository"), "{page}");
    let page = browser.page(&format!("/image/multi@{one}"));
    assert!(page.contains("SBOM (SPDX)") && page.contains("application/spdx+json"), "{page}");
    assert!(browser.page("/image/chart:1.0.0").contains("Helm chart"));
    assert!(browser.page("/repository/chart").contains("application/vnd.cncf.helm.config.v1+json"));
    let raw = browser.get(&format!("/raw/multi@{one}")).expect(200);
    assert_eq!(
        (digest(&raw.body), raw.required_header("content-type")),
        (one, "text/plain; charset=utf-8".to_owned())
    );
}

#[test]
fn deleting_a_tag_keeps_other_tags_of_the_image() {
    let daemon = with_images();
    let mut browser = Browser::of(&daemon, "alice", "secret");
    let confirmation = browser.page("/delete?name=team%2Fapp&tag=1.9&tag=nowhere");
    assert!(confirmation.contains("Delete 1 tag of team/app?"), "{confirmation}");
    assert!(confirmation.contains("2 other tags of the same image stay"), "{confirmation}");
    assert_eq!(tags(&daemon, "team/app").len(), 3, "a confirmation deletes nothing");
    let answer = browser.delete("team/app", &["1.9"]).expect(303);
    assert_eq!(answer.result_address(), "/repository/team/app?done=deleted&count=1");
    assert!(browser.page(&answer.required_header("location")).contains("1 tag deleted."));
    assert_eq!(tags(&daemon, "team/app"), ["1.10", "latest"]);
    browser.delete("team/app", &["1.10", "latest", "x"]).expect(303);
    assert!(tags(&daemon, "team/app").is_empty());
    assert!(browser.page("/activity").contains("deleted"));
    browser.get("/delete?name=team/app&tag=1.9").expect(422);
    browser.get("/delete?name=UPPER&tag=1.9").expect(422);
}

#[test]
fn tag_that_moved_since_the_confirmation_is_kept() {
    let daemon = Daemon::start();
    let before = push_image_with(&daemon, "app", &["1", "2"], &config(), &json!({}));
    let mut browser = Browser::new(&daemon);
    let confirmation = browser.confirmation("app", &["1", "2"]);
    assert_eq!(confirmation[1], ("tag", format!("1@{before}")));
    let after = push_image_with(&daemon, "app", &["1"], &json!({"os": "linux"}), &json!({}));
    let fields: Vec<(&str, &str)> =
        confirmation.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = browser.post("/delete", &fields).expect(303);
    assert_eq!(answer.result_address(), "/repository/app?done=deleted&count=1&moved=1");
    let page = browser.page(&answer.required_header("location"));
    assert!(page.contains("1 tag deleted. 1 tag was kept: it now names a different image"), "{page}");
    let head = daemon.request("HEAD", "/v2/app/manifests/1").send().expect(200);
    assert_eq!(head.required_header("docker-content-digest"), after);
    // A tag without a confirmed digest is kept, too.
    browser.post("/delete", &[("name", "app"), ("tag", "1")]).expect(303);
    assert_eq!(daemon.get("/v2/app/tags/list").expect(200).json()["tags"], json!(["1"]));
    browser.delete("app", &["1"]).expect(303);
}

#[test]
fn activity_shows_the_start_of_its_recording() {
    let daemon = Daemon::start();
    push_image_with(&daemon, "app", &["1"], &config(), &json!({}));
    let page = Browser::new(&daemon).page("/activity");
    let since = page.split("id=\"since\"").next().unwrap().rsplit("<time datetime=\"").next().unwrap();
    assert!(since.starts_with("20") && page.contains("in memory only"), "{page}");
}

#[test]
fn commands_with_an_ipv6_address_are_quoted() {
    let daemon = Daemon::on("[::1]:0", &[("HOLDFAST_AUTH_ANONYMOUS", "full")]);
    push_image_with(&daemon, "team/app", &["1"], &config(), &json!({}));
    let page = |path: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: [::1]:5000\r\nAccept: text/html\r\nConnection: close\r\n\r\n"
        );
        let mut stream = std::net::TcpStream::connect(daemon.address).unwrap();
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        text(&Response::read(&mut stream, false).expect(200)).replace("&#39;", "'")
    };
    let push = page("/push");
    for line in ["docker tag hello-world '[::1]:5000/hello:1'", "docker push '[::1]:5000/hello:1'"] {
        assert!(push.contains(line), "{line} is not in {push}");
    }
    for path in ["/repository/team/app", "/image/team/app:1"] {
        assert!(page(path).contains("docker pull '[::1]:5000/team/app:1'"), "{path}");
    }
}

#[test]
fn deleting_can_be_turned_off() {
    for name in ["HOLDFAST_ADMIN_DELETE", "DELETE_IMAGES", "HOLDFAST_STORAGE_DELETE"] {
        let daemon = with_images_and_env(&[(name, "false")]);
        let mut browser = Browser::of(&daemon, "alice", "secret");
        assert!(!browser.page("/repository/team/app").contains("type=\"checkbox\""), "{name}");
        assert!(!browser.page("/image/team/app:1.9").contains("delete-tags"), "{name}");
        browser.get("/delete?name=team/app&tag=1.9").expect(403);
        browser.post("/delete", &[("name", "team/app"), ("tag", "1.9")]).expect(403);
        assert_eq!(tags(&daemon, "team/app").len(), 3, "{name}");
    }
}

#[test]
fn users_are_added_changed_and_removed_except_the_last() {
    let daemon = with_images();
    let mut browser = Browser::of(&daemon, "alice", "secret");
    assert!(browser.page("/users").contains("last user, cannot be removed"));
    let may =
        |name: &str, password: &str| daemon.request("GET", "/v2/").login(name, password).send().status == 200;
    let mut post = |path: &str, name: &str, new: &str, again: &str| {
        browser.post(path, &[("name", name), ("new", new), ("again", again)])
    };
    post("/users/add", "bob", "password one", "other").expect(422);
    post("/users/add", "a:b", "password one", "password one").expect(422);
    for short in ["", "seven 7"] {
        let refused = text(&post("/users/add", "bob", short, short).expect(422));
        assert!(refused.contains("at least 8 characters"), "{refused}");
    }
    assert_eq!(
        post("/users/add", "bob", "password one", "password one").expect(303).result_address(),
        "/users?done=added"
    );
    assert!(text(&post("/users/add", "bob", "x", "x").expect(422)).contains("User bob already exists."));
    assert!(may("bob", "password one"));
    post("/users/password", "bob", "password two", "other").expect(422);
    assert_eq!(
        post("/users/password", "bob", "password two", "password two").expect(303).result_address(),
        "/users?done=password"
    );
    post("/users/password", "unknown", "password two", "password two").expect(422);
    assert!(may("bob", "password two") && !may("bob", "password one"));
    let form = browser.page("/users/password?name=bob");
    assert!(form.contains("name=\"name\" value=\"bob\" autocomplete=\"username\" readonly"), "{form}");
    browser.get("/users/password?name=unknown").expect(404);
    assert!(browser.page("/users/remove?name=bob").contains("Remove user bob?"));
    browser.get("/users/remove?name=unknown").expect(404);
    browser.post("/users/remove", &[("name", "bob")]).expect(303);
    assert!(!may("bob", "password two"));
    let answer = browser.post("/users/remove", &[("name", "alice")]).expect(422);
    assert!(text(&answer).contains("the last user who can log in"));
    assert!(may("alice", "secret"));
}

#[test]
fn every_page_is_small_and_loads_nothing_from_other_hosts() {
    let daemon = with_images();
    for number in 0..100 {
        let tag = format!("v1.{number}-with-a-rather-long-suffix");
        let bytes = daemon.request("GET", "/v2/team/app/manifests/1.9").login("alice", "secret").send().body;
        let put = daemon.request("PUT", &format!("/v2/team/app/manifests/{tag}")).login("alice", "secret");
        put.header("Content-Type", OCI_MANIFEST).body(&bytes).send().expect(201);
    }
    let mut browser = Browser::of(&daemon, "alice", "secret");
    let page = browser.page("/");
    for part in page.split("/assets/").skip(1) {
        let answer = browser.get(&format!("/assets/{}", part.split(['"', '#']).next().unwrap())).expect(200);
        assert_eq!(answer.required_header("cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(answer.headers("content-security-policy"), ["default-src 'none'"]);
        assert_eq!(answer.headers("x-content-type-options"), ["nosniff"]);
    }
    let assets = super::admin_size::assets(&mut browser);
    assert!(assets > 5000);
    browser.get("/assets/style-0123456789abcdef.css").expect(404);
    for path in PAGES.into_iter().chain([
        "/maintenance",
        "/users",
        "/delete?name=team/app&tag=1.9",
        "/login",
        "/nothing",
    ]) {
        let answer = browser.get(path);
        let page = text(&answer);
        assert!(page.len() + assets < 60 << 10, "{path} has {} bytes and {assets}", page.len());
        for (at, _) in page.match_indices("src=\"").chain(page.match_indices("href=\"")) {
            let link = page[at..].split('"').nth(1).unwrap();
            // Paths, and queries and fragments of the same page.
            let is_local = link.starts_with(['/', '?', '#']) && !link.starts_with("//");
            assert!(is_local, "{path}: {link}");
        }
        assert!(!page.contains(" style=") && !page.contains(" onclick="), "{path}");
        let policy = answer.required_header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; ") && policy.contains("frame-ancestors 'none'"));
        assert_eq!(answer.required_header("x-content-type-options"), "nosniff");
        assert_eq!(answer.required_header("referrer-policy"), "same-origin");
        assert_eq!(answer.required_header("x-frame-options"), "DENY");
        assert_eq!(answer.required_header("cache-control"), "no-store");
    }
}

#[test]
fn terminals_get_plain_text_and_browsers_a_page() {
    let daemon = with_images();
    assert!(text(&daemon.get("/").expect(200)).starts_with("This is a Holdfast container registry"));
    assert_eq!(daemon.get("/nothing").expect(404).error_code(), "UNSUPPORTED");
    let mut browser = Browser::new(&daemon);
    assert!(text(&browser.get("/nothing").expect(404)).contains("There is no such page."));
    let head = browser.request("HEAD", "/login").send().expect(200);
    assert!(head.body.is_empty() && head.required_header("content-length").parse::<usize>().unwrap() > 500);
    let wrong = browser.request("PUT", "/login").body(b"").send().expect(405);
    assert_eq!(wrong.required_header("allow"), "GET, HEAD, POST");
    daemon.get("/v2/").expect(401);
}

#[test]
fn collection_and_check_are_started_and_followed() {
    let daemon = with_images();
    let mut browser = Browser::of(&daemon, "alice", "secret");
    for (path, name) in [("/maintenance/collect", "Collection"), ("/maintenance/check", "Check")] {
        browser.page("/maintenance");
        assert!(
            browser
                .post(path, &[])
                .expect(303)
                .required_header("location")
                .starts_with("/maintenance?done=started")
        );
        let started = std::time::Instant::now();
        let page = loop {
            let page = browser.page("/maintenance");
            if page.contains("id=\"outcome\"") {
                break page;
            }
            assert!(started.elapsed().as_secs() < 20, "{page}");
        };
        assert!(page.contains(&format!("<h2>{name}</h2>")), "{page}");
    }
    assert!(browser.page("/maintenance").contains("No faults found"));
    assert!(browser.page("/").contains("nothing to free, and nothing waits"));
}

#[test]
fn counts_of_repositories_survive_deletes_collection_and_rebuild() {
    let mut daemon = Daemon::start();
    let first = push_image_with(&daemon, "a", &["1", "2"], &config(), &json!({}));
    push_image_with(&daemon, "a", &["1"], &json!({"os": "linux"}), &json!({}));
    push_image_with(&daemon, "b", &[], &config(), &json!({}));
    daemon.push_blob("early", b"a blob that is pushed before its manifest");
    push_image_with(&daemon, "early", &["x"], &config(), &json!({}));
    let mount = format!(
        "/v2/b/blobs/uploads/?from=early&mount={}",
        digest(b"a blob that is pushed before its manifest")
    );
    daemon.request("POST", &mount).body(b"").send().expect(201);
    daemon.request("DELETE", &format!("/v2/a/manifests/{first}")).send().expect(202);
    daemon.request("DELETE", "/v2/early/manifests/x").send().expect(202);
    let rows = |daemon: &Daemon| {
        let page = Browser::new(daemon).page("/repositories");
        let rows =
            page.split("class=\"row\"").skip(1).map(|row| row.split("<time").next().unwrap().to_owned());
        rows.collect::<Vec<_>>()
    };
    let before = rows(&daemon);
    assert!(
        before[0].contains(">a</a><span>1 tag</span>") && before[2].contains("<span>empty, removed on "),
        "{before:?}"
    );
    let holdfast = |arguments: &[&str], data: &std::path::Path| {
        run(std::process::Command::new(BINARY).env_clear().args(arguments).arg("--data").arg(data))
    };
    holdfast(&["check"], &daemon.data);
    holdfast(&["gc", "--grace", "0s"], &daemon.data);
    holdfast(&["check"], &daemon.data);
    let after = rows(&daemon);
    assert_eq!(after.len(), 2, "{after:?}");
    // An index with wrong counts would be rebuilt here.
    daemon.kill_and_restart();
    assert_eq!(rows(&daemon), after);
    let kept = std::fs::read_dir(&daemon.data).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(kept.filter(|name| name.to_string_lossy().starts_with("index.broken")).count(), 0);
    daemon.stop();
    holdfast(&["check", "--rebuild"], &daemon.data);
    daemon.start_again();
    assert_eq!(rows(&daemon), after);
}
