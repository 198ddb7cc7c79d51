//! The rules of the admin page: edited there, in effect at once, weaker than the configuration, and harmless when broken.

use std::process::Command;

use crate::support::browser::{Browser, text};
use crate::support::unit::{Process, Unit, await_logged, signal};
use crate::support::*;

const PASSWORD: &str = "a password";

fn add_users(data: &std::path::Path) {
    for name in ["alice", "bob", "ci"] {
        add_user(data, name, PASSWORD);
    }
}

/// Returns the fields of the form that confirms a rule.
fn fields(page: &str) -> Vec<(String, String)> {
    let form = page.split("id=\"confirm-rule\"").nth(1).unwrap_or_default().split("</form>").next().unwrap();
    let inputs = form.split("<input type=\"hidden\" name=\"").skip(1);
    let field = |input: &str| {
        let (name, rest) = input.split_once("\" value=\"").unwrap();
        (name.to_owned(), rest.split('"').next().unwrap().to_owned())
    };
    inputs.map(field).filter(|(name, _)| name != "token").collect()
}

/// Looks at the effect of a change, and makes it.
#[track_caller]
fn save(browser: &mut Browser, query: &str) -> String {
    let page = browser.page(&format!("/users/rule?{query}"));
    let fields = fields(&page);
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    browser.post("/users/rule", &fields).expect(303);
    page
}

/// Returns why a change is refused.
#[track_caller]
fn refused(browser: &mut Browser, query: &str) -> String {
    let page = text(&browser.get(&format!("/users/rule?{query}")).expect(422));
    page.split("id=\"error\" role=\"alert\">").nth(1).unwrap().split('<').next().unwrap().to_owned()
}

fn pull(daemon: &Daemon, user: &str) -> u16 {
    daemon.request("GET", "/v2/team/app/manifests/1").login(user, PASSWORD).send().status
}

#[test]
fn administrator_edits_rights_that_are_in_effect_at_once_and_after_a_restart() {
    let mut daemon = Daemon::start();
    daemon.push_image("team/app", "1", b"layer");
    add_users(&daemon.data);
    let mut alice = Browser::of(&daemon, "alice", PASSWORD);
    assert!(alice.page("/users").contains("No rule names users, so every user has full rights."));
    assert!(alice.page("/users/rights").contains("There are no rules"));
    let why = refused(&mut alice, "name=ci&repositories=team/*&allow=pull");
    assert!(why.contains("own full rights away") && why.contains("Nothing was changed."), "{why}");
    let page = save(&mut alice, "name=alice&repositories=*&allow=pull&allow=push&allow=delete");
    for part in [
        "This is the first rule that names users",
        "These are full rights",
        "<b>pull, push and delete everywhere</b>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!((pull(&daemon, "bob"), pull(&daemon, "ci"), pull(&daemon, "alice")), (403, 403, 200));
    let page = save(&mut alice, "name=ci&repositories=team/*&allow=pull&allow=push");
    assert!(page.contains("pull and push in team/*") && page.contains("no rights"), "{page}");
    assert_eq!((pull(&daemon, "bob"), pull(&daemon, "ci")), (403, 200));
    let page = save(&mut alice, "name=-&repositories=public/*&allow=pull");
    assert!(page.contains("Every client that can reach the registry may do this"), "{page}");
    assert!(alice.page("/users").contains("pull and push in team/*"));
    assert!(alice.page("/users/rights?name=ci").contains("this page"));
    assert!(alice.page("/activity").contains("rights changed"));
    daemon.stop();
    daemon.start_again();
    assert_eq!((pull(&daemon, "bob"), pull(&daemon, "ci"), pull(&daemon, "alice")), (403, 200, 200));
    let mut alice = Browser::of(&daemon, "alice", PASSWORD);
    // The rules by number, sorted by name: 0 alice, 1 ci, 2 clients that do not log in.
    let page = alice.page("/users/rights?edit=1");
    assert!(page.contains("value=\"team/*\"") && page.contains("Change the rule"), "{page}");
    save(&mut alice, "name=ci&before=team/*&repositories=other/*&allow=pull");
    assert_eq!(pull(&daemon, "ci"), 403);
    for own in [
        "remove=0",
        "name=alice&before=*&repositories=*&allow=pull",
        "name=alice&before=*&repositories=team/*&allow=pull",
    ] {
        assert!(refused(&mut alice, own).contains("own full rights away"), "{own}");
    }
    let page = save(&mut alice, "remove=1");
    assert!(page.contains("Remove this rule?"), "{page}");
    assert!(!alice.page("/users/rights").contains("other/*"));
}

#[test]
fn changes_need_full_rights_a_token_and_the_rules_that_were_looked_at() {
    let daemon = Daemon::start();
    daemon.push_image("team/app", "1", b"layer");
    add_users(&daemon.data);
    let mut alice = Browser::of(&daemon, "alice", PASSWORD);
    save(&mut alice, "name=alice&repositories=*&allow=pull&allow=push&allow=delete");
    let mut bob = Browser::of(&daemon, "bob", PASSWORD);
    let rule = [("name", "bob"), ("repositories", "*"), ("allow", "pull"), ("state", "")];
    for path in ["/users/rights", "/users/rule?name=bob&repositories=*&allow=pull"] {
        bob.get(path).expect(403);
        Browser::new(&daemon).get(path).expect(303);
    }
    bob.post("/users/rule", &rule).expect(403);
    let page = alice.page("/users/rule?name=bob&repositories=*&allow=pull");
    let state = fields(&page).into_iter().find(|(name, _)| name == "state").unwrap().1;
    let rule = [("name", "bob"), ("repositories", "*"), ("allow", "pull"), ("state", state.as_str())];
    alice.post_as("/users/rule", &rule, "http://registry").expect(403);
    let with_token = [rule.to_vec(), vec![("token", alice.token.clone().leak() as &str)]].concat();
    alice.post_as("/users/rule", &with_token, "http://evil.example").expect(403);
    assert_eq!(pull(&daemon, "bob"), 403);
    save(&mut alice, "name=ci&repositories=x&allow=pull");
    let late = text(&alice.post("/users/rule", &rule).expect(422));
    assert!(late.contains("The rules have changed meanwhile"), "{late}");
    for (query, part) in [
        ("name=eve&repositories=*&allow=pull", "no user eve"),
        ("name=bob&repositories=Team/*&allow=pull", "A pattern has"),
        ("name=bob&repositories=team/*", "at least one right"),
        ("name=bob&before=none&repositories=team/*&allow=pull", "no such rule"),
    ] {
        assert!(refused(&mut alice, query).contains(part), "{query}");
    }
    alice.get("/users/rule?remove=9").expect(404);
}

#[test]
fn configuration_is_stronger_than_the_page() {
    let rules = "[[auth.rule]]\nusers = [\"alice\"]\nrepositories = [\"*\"]\nallow = [\"pull\", \"push\", \"delete\"]\n\
                 [[auth.rule]]\nusers = [\"ci\"]\nrepositories = [\"ci/*\"]\nallow = [\"pull\"]\n";
    let daemon = Daemon::with_config(rules);
    add_users(&daemon.data);
    let mut alice = Browser::of(&daemon, "alice", PASSWORD);
    let push = daemon.request("POST", "/v2/team/app/blobs/uploads/").login("alice", PASSWORD);
    push.body(b"").send().expect(202);
    let page = alice.page("/users/rights");
    assert!(
        page.contains("holdfast.toml:1:") && !page.contains("remove=") && !page.contains("?edit="),
        "{page}"
    );
    let why = refused(&mut alice, "name=ci&repositories=*&allow=pull");
    assert!(why.contains("The configuration decides on the rights of ci"), "{why}");
    save(&mut alice, "name=*&repositories=*&allow=pull");
    // "*" of the page is for bob, and not for ci, whose rights the configuration fixes.
    assert_eq!((pull(&daemon, "bob"), pull(&daemon, "ci")), (404, 403));
    let settings = alice.page("/settings");
    assert!(settings.contains(daemon.data.join("rules.toml").to_str().unwrap()), "{settings}");
}

#[test]
fn broken_file_denies_and_is_named_in_log_overview_and_check() {
    let mut daemon = Daemon::start();
    daemon.push_image("team/app", "1", b"layer");
    add_users(&daemon.data);
    assert_eq!(pull(&daemon, "bob"), 200);
    daemon.stop();
    std::fs::write(daemon.data.join("rules.toml"), "[[auth.rule]]\nusers = [\"bob\"]\n").unwrap();
    let log = daemon.start_again_with_log(&[]);
    assert_eq!((pull(&daemon, "bob"), pull(&daemon, "alice")), (403, 403));
    await_logged(&log, "cannot use the rules of the admin page in");
    await_logged(&log, "rules.toml:1:");
    let page = text(&Browser::of(&daemon, "alice", PASSWORD).get("/").expect(403));
    assert!(page.contains("The rules of the admin page cannot be used"), "{page}");
    assert!(!page.contains(daemon.data.to_str().unwrap()), "{page}");
    daemon.stop();
    daemon.start_again_with_env(&[("HOLDFAST_AUTH_ANONYMOUS", "pull")]);
    let page = Browser::new(&daemon).page("/");
    assert!(page.contains("Some users lack rights: cannot use the rules of the admin page."), "{page}");
    let check =
        Command::new(BINARY).env_clear().args(["config", "check", "--data"]).arg(&daemon.data).output();
    let said = String::from_utf8(check.unwrap().stderr).unwrap();
    assert!(said.contains("until it is mended they grant nothing"), "{said}");
    let show = Command::new(BINARY).env_clear().args(["config", "show", "--data"]).arg(&daemon.data).output();
    let shown = String::from_utf8(show.unwrap().stdout).unwrap();
    assert!(
        shown.contains(&format!("# rules of the admin page: {}", daemon.data.join("rules.toml").display())),
        "{shown}"
    );
    std::fs::remove_file(daemon.data.join("rules.toml")).unwrap();
    daemon.stop();
    daemon.start_again();
    assert_eq!(pull(&daemon, "bob"), 200);
}

#[test]
fn reload_refuses_broken_rules_and_settings_show_what_is_in_effect() {
    let unit = Unit::new("limits.connections = 100\n");
    add_user(&unit.path("data"), "alice", PASSWORD);
    let log = tempfile::NamedTempFile::new().unwrap();
    let child = Process(unit.start_with(&[], log.reopen().unwrap().into()));
    unit.await_notification("READY=1");
    let mut alice = Browser::at(unit.address);
    alice.log_in("alice", PASSWORD).expect(303);
    assert!(!alice.page("/settings?section=all").contains("after a restart"));
    unit.configure("limits.connections = 200\nlog.level = \"debug\"\n");
    signal(&child.0, "-HUP");
    unit.await_notification("READY=1");
    let page = alice.page("/settings?section=limits");
    let row = page.split("<code>limits.connections</code>").nth(1).unwrap().split("</tr>").next().unwrap();
    assert!(row.contains("<code>100</code>") && row.contains("after a restart: <code>200</code>"), "{row}");
    std::fs::write(unit.path("data").join("rules.toml"), "half").unwrap();
    unit.configure("auth.anonymous = \"full\"\n");
    signal(&child.0, "-HUP");
    unit.await_notification("READY=1");
    unit.get("/v2/").expect(401);
    await_logged(&log, "keeping the old configuration: cannot use the rules of the admin page");
}

#[test]
fn page_and_command_line_refuse_the_same_names() {
    let daemon = Daemon::start();
    add_user(&daemon.data, "alice", PASSWORD);
    let mut alice = Browser::of(&daemon, "alice", PASSWORD);
    let long = "a".repeat(65);
    let names = [
        "",
        " ",
        "-",
        "--",
        "-x",
        "*",
        "a b",
        " a",
        "a ",
        "a:b",
        "a\tb",
        "a\nb",
        "#a",
        ".",
        "..",
        "a/b",
        "a\\b",
        "é",
        "名前",
        "a\u{301}",
        "\u{202e}a",
        "a\u{200b}",
        "A",
        "a@b.example",
        "a+b",
        "a=b",
        "a,b",
        "\"",
        "<b>",
        "%41",
        &long,
        &long[1..],
        "null",
        "alice ",
    ];
    for name in names {
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new(BINARY);
        command.env_clear().args(["user", "add", "--password-stdin", "--data"]);
        command.arg(data.path()).args(["--", name]);
        let by_command = with_input(&mut command, PASSWORD.as_bytes()).status.success();
        let page = alice.post("/users/add", &[("name", name), ("new", PASSWORD), ("again", PASSWORD)]);
        assert_eq!(page.status == 303, by_command, "{name:?} {}", page.status);
    }
}

#[test]
fn theme_keeps_the_page_to_return_to_after_the_log_in() {
    let daemon = Daemon::with_user("alice", PASSWORD, &[]);
    let next = "/login?next=%2Factivity%3Fq%3Dx";
    let mut browser = Browser::new(&daemon).with("Referer", &format!("http://registry{next}"));
    assert!(browser.page(next).contains("action=\"/login?next=/activity%3Fq%3Dx\""));
    let chosen = browser.post("/theme", &[("theme", "dark")]).expect(303);
    assert_eq!(chosen.required_header("location"), next);
    let mut outside = Browser::new(&daemon).with("Referer", "http://registry/login?next=%2F%2Fevil.example");
    outside.page("/login");
    assert_eq!(
        outside.post("/theme", &[("theme", "dark")]).expect(303).required_header("location"),
        "/login"
    );
}
