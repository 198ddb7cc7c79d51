//! Tests of lists: a single text in place of a list, and empty items.

use super::*;

#[test]
fn a_single_text_is_a_list_only_for_listen_and_headers() {
    let config = from_text("listen = \":1\"\n[http.headers]\nX-A = \"b\"\nX-B = \"\"\n").unwrap();
    assert_eq!((config.listen.len(), &config.http.headers["X-A"][..]), (1, &["b".to_owned()][..]));
    assert_eq!(config.http.headers["X-B"], [""]);
    let rule = "repositories = [\"*\"]\n";
    for (text, key) in [
        ("[admin]\nusers = \"alice\"", "admin.users"),
        ("[tls]\nnames = \"alice\"", "tls.names"),
        ("[tls]\nclient_ca = \"alice\"", "tls.client_ca"),
        ("[http]\ntrusted_proxies = \"alice\"", "http.trusted_proxies"),
        ("[registry]\ncompatible_files = \"alice\"", "registry.compatible_files"),
        (&format!("[[auth.rule]]\nusers = \"alice\"\nallow = []\n{rule}"), "auth.rule.users"),
        (&format!("[[auth.rule]]\nusers = []\nallow = \"alice\"\n{rule}"), "auth.rule.allow"),
        ("[[retention]]\nrepositories = \"alice\"", "retention.repositories"),
        (&format!("[[retention]]\nkeep_tags = \"alice\"\n{rule}"), "retention.keep_tags"),
        (&format!("[[immutable]]\ntags = \"alice\"\n{rule}"), "immutable.tags"),
    ] {
        let found = lines(text);
        let expected = format!("{key} is \"alice\", but must be a list of ");
        assert!(found.len() == 1 && found[0].contains(&expected), "{text}: {found:?}");
        assert!(found[0].ends_with(", in brackets: [\"alice\"]"), "{text}: {found:?}");
        let empty = lines(&text.replace("alice", ""));
        assert!(empty.len() == 1 && empty[0].contains(&format!("{key} is \"\", but must be a list of ")));
    }
}

#[test]
fn an_empty_item_is_refused_where_it_means_no_user_no_repository_and_no_file() {
    let rule = "users = [\"ci\"]\nrepositories = [\"*\"]\nallow = [\"pull\"]\n";
    for (text, key) in [
        ("[admin]\nusers = [\"\"]".to_owned(), "admin.users"),
        ("[admin]\nusers = [\"a\", \" \"]".to_owned(), "admin.users"),
        ("[tls]\nclient_ca = [\"\"]".to_owned(), "tls.client_ca"),
        ("[http]\ntrusted_proxies = [\"\"]".to_owned(), "http.trusted_proxies"),
        ("[registry]\ncompatible_files = [\"\"]".to_owned(), "registry.compatible_files"),
        (format!("[[auth.rule]]\n{}", rule.replace("ci", "")), "auth.rule.users"),
        (format!("[[auth.rule]]\n{}", rule.replace('*', "")), "auth.rule.repositories"),
        (format!("[[auth.rule]]\n{}", rule.replace("pull", "")), "auth.rule.allow"),
        ("[[retention]]\nrepositories = [\"\"]".to_owned(), "retention.repositories"),
        ("[[retention]]\nrepositories = [\"*\"]\nkeep_tags = [\"\"]".to_owned(), "retention.keep_tags"),
        ("[[immutable]]\nrepositories = [\"*\"]\ntags = [\"\"]".to_owned(), "immutable.tags"),
    ] {
        let found = lines(&text);
        assert!(found.len() == 1 && found[0].contains(&format!("{key} is \"")), "{text}: {found:?}");
    }
}
