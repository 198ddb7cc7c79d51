//! Tests of the htpasswd file: edits, and the lines that log in no user.

use proptest::prelude::*;

use super::*;

#[test]
fn edits_preserve_lines_without_a_user() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("htpasswd");
    fs::write(&path, "# ours\nold:$apr1$x$y\n").unwrap();
    let bob: UserName = "bob".parse().unwrap();
    Htpasswd::edit(&path, |file| file.set(&bob, "secret", 4)).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# ours\nold:$apr1$x$y\nbob:$2"), "{text}");
    let users = Htpasswd::read(&path).unwrap().users();
    assert!(bcrypt::verify("secret", &users["bob"]).unwrap() && !users.contains_key("old"));
    assert!(matches!(Htpasswd::edit(&path, |file| file.add(&bob, "x")), Err(HtpasswdError::Exists(_))));
    Htpasswd::edit(&path, |file| file.remove(&bob)).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "# ours\nold:$apr1$x$y\n");
    assert!(Htpasswd::edit(&path, |file| file.change(&bob, "x")).is_err());
}

#[test]
fn edit_does_not_follow_a_planted_link() {
    let directory = tempfile::tempdir().unwrap();
    let (path, target) = (directory.path().join("htpasswd"), directory.path().join("target"));
    fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, directory.path().join("htpasswd.new")).unwrap();
    Htpasswd::edit(&path, |file| file.set(&"bob".parse().unwrap(), "secret", 4)).unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
    assert!(Htpasswd::read(&path).unwrap().users().contains_key("bob"));
    // The temporary file of an interrupted edit does not block the next edit.
    fs::write(directory.path().join("htpasswd.new"), "half").unwrap();
    Htpasswd::edit(&path, |file| file.set(&"eve".parse().unwrap(), "secret", 4)).unwrap();
    assert_eq!(Htpasswd::read(&path).unwrap().users().len(), 2);
}

#[test]
fn lines_without_a_valid_name_or_bcrypt_hash_log_in_no_user() {
    let hash = bcrypt::hash("secret", 4).unwrap();
    let file = Htpasswd::parse(&format!("-:{hash}\na b:{hash}\nold:$apr1$x$y\n--:{hash}\n"));
    assert_eq!(file.users().into_keys().collect::<Vec<_>>(), ["--"]);
    assert_eq!(file.names().iter().map(UserName::as_str).collect::<Vec<_>>(), ["old", "--"]);
    assert!("-".parse::<UserName>().is_err());
}

#[test]
fn hash_above_the_highest_cost_logs_in_no_user() {
    let hash = bcrypt::hash("secret", 4).unwrap();
    let (most, more) = (hash.replacen("$04$", "$17$", 1), hash.replacen("$04$", "$18$", 1));
    let users = Htpasswd::parse(&format!("most:{most}\nmore:{more}\n")).users();
    assert_eq!(users.into_keys().collect::<Vec<_>>(), ["most"]);
}

#[test]
fn password_that_is_short_or_that_bcrypt_would_truncate_is_refused() {
    let name = "a".parse().unwrap();
    let mut file = Htpasswd::default();
    // Seven characters, in more than eight bytes.
    for password in ["", "seven 7", "äöüäöü7", "12345678\0", &"x".repeat(73)] {
        assert!(matches!(file.add(&name, password), Err(HtpasswdError::Password)), "{password}");
    }
    file.set(&name, "short", 4).unwrap();
    assert!(matches!(file.change(&name, "short"), Err(HtpasswdError::Password)));
    assert!(check_new_password("eight 88").is_ok() && check_new_password("äöüäöüäö").is_ok());
    assert!("a:b".parse::<UserName>().is_err() && "".parse::<UserName>().is_err());
}

proptest! {
    #[test]
    fn parsing_never_panics(text in ".{0,200}") {
        let file = Htpasswd::parse(&text);
        let _ = (file.users(), file.names());
    }
}
