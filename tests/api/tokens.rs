//! Bearer tokens: the challenge, the token endpoint, grants and revocation.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::browser::Browser;
use crate::support::*;

/// Starts a registry with a user and anonymous pull.
fn with_anonymous_pull() -> Daemon {
    Daemon::with_user("alice", "secret", &[("HOLDFAST_AUTH_ANONYMOUS", "pull")])
}

/// Requests a token with the parameters of a query, as a user or anonymously.
fn get_token(daemon: &Daemon, query: &str, login: Option<(&str, &str)>) -> Response {
    let request = daemon.request("GET", &format!("/token?service=registry&{query}"));
    match login {
        Some((name, password)) => request.login(name, password).send(),
        None => request.send(),
    }
}

fn token(daemon: &Daemon, query: &str, login: Option<(&str, &str)>) -> String {
    let answer = get_token(daemon, query, login).expect(200);
    assert_eq!(answer.required_header("cache-control"), "no-store");
    let json = answer.json();
    assert_eq!((&json["token"], &json["expires_in"]), (&json["access_token"], &json!(300)));
    json["token"].as_str().unwrap().to_owned()
}

fn post(daemon: &Daemon, form: &str) -> Response {
    let request = daemon.request("POST", "/token");
    request.header("Content-Type", "application/x-www-form-urlencoded").body(form.as_bytes()).send()
}

fn with_token(daemon: &Daemon, method: &str, path: &str, token: &str) -> Response {
    daemon.request(method, path).header("Authorization", &format!("Bearer {token}")).body(b"").send()
}

fn holdfast(arguments: &[&str], data: &Path, input: &str) {
    use std::io::Write;
    let mut command = Command::new(BINARY);
    command.env_clear().args(arguments).arg("--data").arg(data).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn challenge_names_the_endpoint_and_the_scope() {
    let daemon = with_anonymous_pull();
    let challenge = |answer: Response| {
        let challenges = answer.expect(401).headers("www-authenticate");
        assert_eq!(challenges.len(), 1, "{challenges:?}");
        challenges[0].clone()
    };
    let endpoint = "Bearer realm=\"http://registry/token\",service=\"registry\"";
    assert_eq!(challenge(daemon.get("/v2/")), endpoint);
    let start = "/v2/a/b/blobs/uploads/";
    let push = daemon.request("POST", start).body(b"").send();
    assert_eq!(challenge(push), format!("{endpoint},scope=\"repository:a/b:pull,push\""));
    let mount = format!("{start}?mount={}&from=c", digest(b"x"));
    let mount = daemon.request("POST", &mount).body(b"").send();
    assert_eq!(challenge(mount), format!("{endpoint},scope=\"repository:a/b:pull,push repository:c:pull\""));
    let delete = daemon.request("DELETE", "/v2/a/manifests/1").send();
    assert_eq!(challenge(delete), format!("{endpoint},scope=\"repository:a:delete\""));
    // Operations that the anonymous user may do need no token.
    assert_eq!(daemon.get("/v2/a/tags/list").expect(404).error_code(), "NAME_UNKNOWN");
    daemon.get("/v2/_catalog").expect(200);
    daemon.get("/v2/UPPER/tags/list").expect(400);
    // Basic authentication works, too, and a wrong password is refused even where no log-in is needed.
    let ping = |name: &str, password: &str| daemon.request("GET", "/v2/").login(name, password).send();
    ping("alice", "secret").expect(200);
    assert_eq!(challenge(ping("alice", "wrong")), endpoint);
    daemon.request("GET", "/v2/a/tags/list").login("alice", "wrong").send().expect(401);
    // The endpoint has the host that the client requested.
    let by_name = daemon.request("GET", "/v2/").host("[::1]:5000").header("X-Forwarded-Proto", "https");
    let challenge = challenge(by_name.send());
    assert!(challenge.starts_with("Bearer realm=\"https://[::1]:5000/token\",service=\"[::1]:5000\""));
}

#[test]
fn challenge_scheme_is_configured_or_derived_from_anonymous_rights() {
    let scheme = |environment: &[(&str, &str)]| {
        let daemon = Daemon::with_user("alice", "secret", environment);
        let answer = daemon.get("/v2/");
        let secret = daemon.data.join("secret");
        assert_eq!(
            secret.exists(),
            answer.header("www-authenticate").is_some_and(|it| it.starts_with("Bearer"))
        );
        (answer.status, answer.header("www-authenticate").map(str::to_owned))
    };
    assert!(scheme(&[]).1.unwrap().starts_with("Basic "));
    let (anonymous, challenge) = ("HOLDFAST_AUTH_ANONYMOUS", "HOLDFAST_AUTH_CHALLENGE");
    assert_eq!(scheme(&[(anonymous, "pull"), (challenge, "basic")]), (200, None));
    assert!(scheme(&[(challenge, "bearer")]).1.unwrap().starts_with("Bearer "));
    let url = ("HOLDFAST_HTTP_EXTERNAL_URL", "https://hub.example:444");
    let external = scheme(&[(anonymous, "full"), url]).1.unwrap();
    assert_eq!(external, "Bearer realm=\"https://hub.example:444/token\",service=\"hub.example:444\"");
    // Without users a challenge would be pointless.
    Daemon::with_env(&[(anonymous, "full")]).get("/v2/").expect(200);
}

#[test]
fn tokens_permit_only_their_scopes() {
    let daemon = with_anonymous_pull();
    let alice = Some(("alice", "secret"));
    let anonymous = token(&daemon, "scope=repository:a:pull,push&scope=registry:catalog:*", None);
    with_token(&daemon, "GET", "/v2/", &anonymous).expect(200);
    with_token(&daemon, "GET", "/v2/a/tags/list", &anonymous).expect(404);
    with_token(&daemon, "GET", "/v2/_catalog", &anonymous).expect(200);
    let refused = with_token(&daemon, "POST", "/v2/a/blobs/uploads/", &anonymous).expect(401);
    assert!(refused.required_header("www-authenticate").ends_with("error=\"insufficient_scope\""));
    get_token(&daemon, "scope=repository:a:pull", Some(("alice", "wrong"))).expect(401);

    let pushes = token(&daemon, "scope=repository:a:pull,push%20repository:b:pull", alice);
    let layer = digest(b"layer");
    let push = |name: &str| {
        let path = format!("/v2/{name}/blobs/uploads/?digest={layer}");
        daemon
            .request("POST", &path)
            .header("Authorization", &format!("Bearer {pushes}"))
            .body(b"layer")
            .send()
    };
    push("a").expect(201);
    push("b").expect(401);
    let path = "/v2/a/manifests/1";
    let manifest = daemon.request("PUT", path).header("Content-Type", OCI_MANIFEST);
    let manifest = manifest.header("authorization", &format!("bearer {pushes}"));
    manifest.body(&image(&layer, &layer, None)).send().expect(201);
    with_token(&daemon, "DELETE", path, &pushes).expect(401);
    // A mount needs scopes for both repositories; without the scope for the source it becomes an upload.
    let mount = format!("/v2/new/blobs/uploads/?mount={layer}&from=a");
    let into = token(&daemon, "scope=repository:new:pull,push", alice);
    with_token(&daemon, "POST", &mount, &into).expect(202);
    let both = token(&daemon, "scope=repository:new:pull,push&scope=repository:a:pull", alice);
    with_token(&daemon, "POST", &mount, &both).expect(201);
    // The rules, and not the repositories in the token, decide which repositories the catalog shows.
    let catalog = token(&daemon, "scope=registry:catalog:*", alice);
    let shown = with_token(&daemon, "GET", "/v2/_catalog", &catalog).expect(200).json();
    assert_eq!(shown["repositories"], json!(["a"]));
    let challenge = with_token(&daemon, "GET", "/v2/_catalog", &pushes).expect(401);
    assert!(challenge.required_header("www-authenticate").contains("scope=\"registry:catalog:*\""));
    let deletes = token(&daemon, "scope=repository:a:*", alice);
    with_token(&daemon, "DELETE", path, &deletes).expect(202);
}

#[test]
fn token_endpoint_accepts_oauth2_password_grants() {
    let daemon = with_anonymous_pull();
    let right = "grant_type=password&username=alice&password=secret&service=registry&client_id=docker";
    let answer =
        post(&daemon, &format!("{right}&access_type=offline&scope=repository:a:pull,push")).expect(200);
    let json = answer.json();
    assert_eq!(json["scope"], "repository:a:pull,push");
    assert!(json["refresh_token"].is_null());
    let token = json["access_token"].as_str().unwrap();
    with_token(&daemon, "POST", "/v2/a/blobs/uploads/", token).expect(202);
    for (form, status, error) in [
        (&right.replace("secret", "wrong")[..], 401, "invalid_grant"),
        ("grant_type=refresh_token&refresh_token=x", 401, "invalid_grant"),
        ("grant_type=client_credentials", 400, "unsupported_grant_type"),
        ("username=alice&password=secret", 400, "invalid_request"),
        ("grant_type=password&username=alice", 400, "invalid_request"),
        ("", 400, "invalid_request"),
        (&format!("{right}&scope=repository:UPPER:pull"), 400, "invalid_scope"),
    ] {
        let answer = post(&daemon, form).expect(status);
        assert_eq!(answer.json()["error"], error, "{form}");
        assert!(answer.json()["errors"][0]["message"].is_string() && !answer.error_code().is_empty());
    }
    daemon.request("POST", "/token").body(right.as_bytes()).send().expect(400);
    daemon.request("HEAD", "/token").send().expect(405);
    assert_eq!(daemon.request("DELETE", "/token").send().expect(405).required_header("allow"), "GET, POST");
    // JSON also for a client that accepts HTML.
    let html = daemon.request("GET", "/token").header("Accept", "text/html").send().expect(200);
    assert_eq!(html.required_header("content-type"), "application/json");
    // CSRF: a page of another origin gets no token with credentials that the browser has stored.
    let foreign = daemon.request("POST", "/token").header("Origin", "http://evil.example");
    foreign.header("Content-Type", "application/x-www-form-urlencoded").body(b"").send().expect(403);
}

#[test]
fn untrusted_token_requests_are_refused_or_truncated() {
    let daemon = with_anonymous_pull();
    let many: String = (0..300).map(|number| format!("scope=repository:a{number}:pull&")).collect();
    let answer = get_token(&daemon, &many, None).expect(200);
    assert_eq!(answer.json()["scope"].as_str().unwrap().split(' ').count(), 64);
    let long: String =
        (0..64).map(|number| format!("scope=repository:{}{number}:pull&", "a".repeat(250))).collect();
    assert!(token(&daemon, &long, None).len() <= 4096);
    let invalid = get_token(&daemon, "scope=repository:../x:pull", None).expect(400);
    assert_eq!(invalid.error_code(), "NAME_INVALID");
    for query in ["scope=", "scope=:::&scope=%00", "scope=repository:a:sudo", "scope=x(y)z:a:pull", "%ff=%ff"]
    {
        assert_eq!(get_token(&daemon, query, None).expect(200).json()["scope"], "", "{query}");
    }
    post(&daemon, &format!("grant_type=password&username={}", "x".repeat(20_000))).expect(413);
    let name = "x".repeat(5000);
    post(&daemon, &format!("grant_type=password&username={name}&password={name}")).expect(401);
    let real = token(&daemon, "scope=repository:a:pull", None);
    let last = if real.ends_with('A') { "B" } else { "A" };
    let long = format!("hft1.{}", "A".repeat(10_000));
    let forged =
        [&real[..real.len() - 5], &format!("{real}x"), &real[5..], "hft1.", "", "hft1.====", &long, last];
    for forged in forged {
        let answer = with_token(&daemon, "GET", "/v2/a/tags/list", forged).expect(401);
        let challenge = answer.required_header("www-authenticate");
        assert!(challenge.ends_with(",error=\"invalid_token\""), "{challenge}");
    }
    // A token cannot be exchanged for another token.
    with_token(&daemon, "GET", "/token?scope=repository:a:pull", &real).expect(401);
}

#[test]
fn token_ends_with_its_password_user_and_key_but_survives_restarts() {
    let mut daemon = with_anonymous_pull();
    add_user(&daemon.data, "bob", "secret");
    let login = |name: &'static str, password: &'static str| Some((name, password));
    let scope = "scope=repository:a:push";
    let begin = |daemon: &Daemon, token: &str| with_token(daemon, "POST", "/v2/a/blobs/uploads/", token);
    let (alice, bob) =
        (token(&daemon, scope, login("alice", "secret")), token(&daemon, scope, login("bob", "secret")));
    begin(&daemon, &alice).expect(202);
    daemon.stop_and_restart();
    begin(&daemon, &alice).expect(202);
    daemon.kill_and_restart();
    begin(&daemon, &alice).expect(202);
    begin(&daemon, &bob).expect(202);

    holdfast(&["user", "passwd", "alice", "--password-stdin"], &daemon.data, "another one");
    holdfast(&["user", "remove", "bob"], &daemon.data, "");
    for token in [&alice, &bob] {
        let refused = begin(&daemon, token).expect(401);
        assert!(refused.required_header("www-authenticate").ends_with("error=\"invalid_token\""));
    }

    let alice = token(&daemon, scope, login("alice", "another one"));
    begin(&daemon, &alice).expect(202);
    let secret = daemon.data.join("secret");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let damages: [fn(&Path); 3] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, "damaged").unwrap(),
        |path| fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap(),
    ];
    for damage in damages {
        let token = token(&daemon, scope, login("alice", "another one"));
        begin(&daemon, &token).expect(202);
        daemon.stop();
        damage(&secret);
        daemon.start_again();
        begin(&daemon, &token).expect(401);
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // A directory in place of the file does not prevent the start.
    daemon.stop();
    fs::remove_file(&secret).unwrap();
    fs::create_dir(&secret).unwrap();
    daemon.start_again();
    begin(&daemon, &token(&daemon, scope, login("alice", "another one"))).expect(202);
}

#[test]
fn rule_for_the_anonymous_user_opens_its_repositories() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    add_user(&data, "alice", "secret");
    let rule = "[[auth.rule]]\nusers = [\"-\"]\nrepositories = [\"public/*\"]\nallow = [\"pull\"]\n";
    let storage = format!("[storage]\npath = {data:?}\n");
    let daemon = Daemon::with_config_at(&data, &format!("{storage}{rule}"));
    let layer = digest(b"layer");
    for name in ["public/app", "private"] {
        let login = |request: Request| request.login("alice", "secret");
        let path = format!("/v2/{name}/blobs/uploads/?digest={layer}");
        login(daemon.request("POST", &path)).body(b"layer").send().expect(201);
        let put =
            daemon.request("PUT", &format!("/v2/{name}/manifests/1")).header("Content-Type", OCI_MANIFEST);
        login(put).body(&image(&layer, &layer, None)).send().expect(201);
    }
    assert!(daemon.get("/v2/").expect(401).required_header("www-authenticate").starts_with("Bearer "));
    daemon.get("/v2/public/app/manifests/1").expect(200);
    daemon.get("/v2/private/manifests/1").expect(401);
    daemon.get("/v2/nothing/manifests/1").expect(401);
    daemon.request("DELETE", "/v2/public/app/manifests/1").send().expect(401);
    assert_eq!(daemon.get("/v2/_catalog").expect(200).json()["repositories"], json!(["public/app"]));
    // The admin page still needs a log-in.
    let mut browser = Browser::new(&daemon);
    for path in ["/", "/repositories", "/repository/public/app", "/image/public/app:1"] {
        assert!(browser.get(path).expect(303).required_header("location").starts_with("/login"), "{path}");
    }
    let scopes = "scope=repository:public/app:pull&scope=repository:private:pull";
    let answer = get_token(&daemon, scopes, None).expect(200).json();
    assert_eq!(answer["scope"], "repository:public/app:pull");
    let token = answer["token"].as_str().unwrap().to_owned();
    with_token(&daemon, "GET", "/v2/public/app/manifests/1", &token).expect(200);
    with_token(&daemon, "GET", "/v2/private/manifests/1", &token).expect(401);
    drop(daemon);
    // Tokens that were issued under a removed rule grant nothing.
    let challenge = "[auth]\nchallenge = \"bearer\"\n";
    let daemon = Daemon::with_config_at(&data, &format!("{storage}{challenge}"));
    with_token(&daemon, "GET", "/v2/public/app/manifests/1", &token).expect(401);
    daemon.request("GET", "/v2/public/app/manifests/1").login("alice", "secret").send().expect(200);
}
