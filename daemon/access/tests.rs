//! Tests of authentication: implicit openness, reloads of the htpasswd file, the credential cache and the throttle.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::testing::{self, HERE, advance, basic, rule, set_password, settings};
use super::throttle::PER_NAME;
use super::*;

fn access(directory: &Path, anonymous: Option<Anonymous>, open: bool) -> Access {
    testing::open(settings(directory, anonymous, open), UsersLatch::default())
}

fn write(directory: &Path, text: &str) {
    let whole = |file: &mut Htpasswd| {
        *file = Htpasswd::parse(text);
        Ok(())
    };
    Htpasswd::edit(&directory.join("htpasswd"), whole).unwrap();
}

#[tokio::test]
async fn implicitly_open_registry_closes_with_the_first_user() {
    let directory = tempfile::tempdir().unwrap();
    let open = access(directory.path(), None, true);
    let who = open.identify(None, HERE).await.unwrap().identity().clone();
    assert!(open.permit(who, &Operation::Ping).is_ok());
    let closed = access(directory.path(), None, false);
    let who = closed.identify(None, HERE).await.unwrap().identity().clone();
    assert_eq!(closed.permit(who, &Operation::Ping).err(), Some(Refusal::NoUsersYet));
    set_password(directory.path(), "alice", "secret");
    advance(&open);
    let who = open.identify(None, HERE).await.unwrap().identity().clone();
    assert_eq!(open.permit(who, &Operation::Ping).err(), Some(Refusal::NeedsLogin));
}

#[tokio::test]
async fn unusable_entry_closes_an_implicitly_open_registry() {
    let directory = tempfile::tempdir().unwrap();
    let access = access(directory.path(), None, true);
    assert!(access.is_implicitly_open().await && access.is_open());
    write(directory.path(), "alice:$apr1$x$y\n");
    advance(&access);
    assert!(!access.is_implicitly_open().await && !access.is_open() && !access.has_users());
}

#[expect(clippy::disallowed_methods, reason = "another program writes the htpasswd file")]
#[tokio::test]
async fn registry_that_had_an_entry_stays_closed_when_the_file_is_emptied_or_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("htpasswd");
    let seen = UsersLatch::default();
    let open = || testing::open(settings(directory.path(), None, true), seen.clone());
    let access = open();
    std::fs::write(&path, "\n").unwrap();
    assert!(access.is_implicitly_open().await, "a blank file has no entry");
    for line in ["alice:$apr1$x$y\n", "# ours\n"] {
        std::fs::write(&path, line).unwrap();
        advance(&access);
        assert!(!access.is_implicitly_open().await);
        // Apache's htpasswd truncates the file and writes it again.
        std::fs::File::create(&path).unwrap();
        advance(&access);
        assert!(!access.is_implicitly_open().await && !access.is_open());
        assert_eq!(access.permit(Identity::Anonymous, &Operation::Ping).err(), Some(Refusal::NoUsersYet));
        std::fs::remove_file(&path).unwrap();
        advance(&access);
        assert!(!access.is_implicitly_open().await && !access.is_open());
        // A reload of the configuration does not reopen it.
        assert!(!open().is_open());
    }
}

#[tokio::test]
async fn registry_with_rules_is_not_implicitly_open() {
    let directory = tempfile::tempdir().unwrap();
    let rules = vec![rule(&["a"], "*", &[])];
    let mut settings = settings(directory.path(), None, true);
    settings.auth.rules = rules;
    let access = testing::open(settings, UsersLatch::default());
    assert!(!access.is_implicitly_open().await && !access.is_open());
}

#[tokio::test]
async fn registry_opened_by_configuration_is_not_implicitly_open() {
    let directory = tempfile::tempdir().unwrap();
    let access = access(directory.path(), Some(Anonymous::Full), true);
    assert!(access.is_open() && !access.is_implicitly_open().await);
}

#[tokio::test]
async fn changed_password_invalidates_the_cache() {
    let directory = tempfile::tempdir().unwrap();
    set_password(directory.path(), "alice", "one");
    let access = access(directory.path(), None, true);
    let header = basic("alice:one");
    for _ in 0..2 {
        let who = access.identify(Some(&header), HERE).await.unwrap();
        assert_eq!(who.identity().to_string(), "alice");
    }
    set_password(directory.path(), "alice", "two");
    advance(&access);
    assert_eq!(access.identify(Some(&header), HERE).await, Err(IdentifyError::WrongCredentials));
    assert!(access.identify(Some(&basic("alice:two")), HERE).await.is_ok());
}

#[tokio::test]
async fn password_that_bcrypt_would_truncate_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let longest = "x".repeat(72);
    set_password(directory.path(), "alice", &longest);
    set_password(directory.path(), "bob", "two");
    let access = access(directory.path(), None, true);
    for wrong in [format!("alice:{longest}y"), "bob:two\0two".into(), "bob:two\0".into()] {
        let answer = access.identify(Some(&basic(&wrong)), HERE).await;
        assert_eq!(answer, Err(IdentifyError::WrongCredentials), "{wrong:?}");
    }
    assert!(access.identify(Some(&basic(&format!("alice:{longest}"))), HERE).await.is_ok());
    assert!(access.identify(Some(&basic("bob:two")), HERE).await.is_ok());
}

#[tokio::test]
async fn first_user_closes_a_registry_open_like_registry_2() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { open_as_registry_2: true, ..settings(directory.path(), None, true) };
    let access = testing::open(settings, UsersLatch::default());
    assert!(access.is_open() && !access.is_implicitly_open().await);
    set_password(directory.path(), "alice", "secret");
    advance(&access);
    let anonymous = access.identify(None, HERE).await.unwrap().identity().clone();
    assert_eq!(access.permit(anonymous, &Operation::Ping).err(), Some(Refusal::NeedsLogin));
}

#[tokio::test]
async fn repeated_wrong_password_uses_no_budget() {
    let directory = tempfile::tempdir().unwrap();
    set_password(directory.path(), "alice", "one");
    let access = access(directory.path(), None, true);
    for header in ["nonsense".to_owned(), basic("bob:one"), basic("alice:two")] {
        for _ in 0..2 * PER_NAME.0 {
            assert_eq!(access.identify(Some(&header), HERE).await, Err(IdentifyError::WrongCredentials));
        }
    }
    assert!(access.identify(Some(&basic("alice:one")), HERE).await.is_ok());
    // The cache of wrong passwords ends with the version of the htpasswd file.
    set_password(directory.path(), "alice", "two");
    advance(&access);
    assert!(access.identify(Some(&basic("alice:two")), HERE).await.is_ok());
}

/// Wrong passwords from several addresses, and enough to exhaust the budget of this one, refuse neither a first log-in
/// from another address nor credentials that were verified before.
#[tokio::test]
async fn guesses_lock_out_neither_other_addresses_nor_verified_credentials() {
    let directory = tempfile::tempdir().unwrap();
    set_password(directory.path(), "alice", "one");
    let mut settings = settings(directory.path(), None, true);
    settings.auth.remember = Duration::ZERO;
    let access = testing::open(settings, UsersLatch::default());
    assert!(access.identify(Some(&basic("alice:one")), HERE).await.is_ok());
    let elsewhere = |last: u8| IpAddr::from([10, 0, 0, last]);
    for guess in 0..PER_NAME.0 {
        for from in [HERE, elsewhere(1), elsewhere(2), elsewhere(3), elsewhere(4)] {
            let header = basic(&format!("alice:{guess} from {from}"));
            assert_eq!(access.identify(Some(&header), from).await, Err(IdentifyError::WrongCredentials));
        }
    }
    assert!(access.identify(Some(&basic("alice:one")), elsewhere(5)).await.is_ok());
    assert!(access.identify(Some(&basic("alice:one")), HERE).await.is_ok());
}
