//! The keys of `[auth]`.

use crate::access::{Action, Anonymous, Challenge, Rule};
use crate::config::format::{Choice, Describe, Format, List, Optional};
use crate::config::key::{Initial, Key, Section, key};
use crate::config::rules::Rules;
use crate::config::settings::{Config, htpasswd_in, page_rules_in};
use crate::config::text_formats::{DURATION, PATH, PATTERN, TEXT, TOKEN_LIFETIME, USER};

pub(in crate::config) const AUTH: Section<Config> = Section { name: "auth", doc: "", keys: AUTH_KEYS };

const AUTH_KEYS: &[Key<Config>] = &[
    key!(
        "auth.realm",
        Initial::Value("\"Holdfast\""),
        auth.realm,
        TEXT,
        "The realm that clients show when they ask for a password."
    ),
    Key {
        name: "auth.htpasswd",
        initial: Initial::Unset("\"/etc/holdfast/htpasswd\""),
        doc: "The file of users, as written by `holdfast user` and `htpasswd -B`. The default is the file htpasswd in the \
              data directory. The user that the daemon runs as must be able to read a file elsewhere, and with the \
              sandbox of the packaged service the admin page cannot change it.",
        shape: || PATH.shape(),
        allowed: || PATH.allowed(),
        read: |config: &mut Config, name, item| {
            config.auth.settings.htpasswd = PATH.read(name, item)?;
            config.auth.htpasswd_is_set = true;
            Ok(())
        },
        // The default is not shown as a value: as a setting it would close an implicitly open registry.
        show: |config| PATH.show(&config.auth.settings.htpasswd).filter(|_| config.auth.htpasswd_is_set),
        restart: false,
        rule: Vec::new,
    },
    key!(
        "auth.anonymous",
        Initial::Unset("\"pull\""),
        auth.settings.anonymous,
        Optional(Choice(&[("none", Anonymous::None), ("pull", Anonymous::Pull), ("full", Anonymous::Full)])),
        "The rights of clients that do not log in: \"none\", \"pull\" or \"full\". If not set, a registry with users asks \
         every client for a password, and a registry without users is open on loopback and closed elsewhere. It is not \
         open on loopback if http.external_url or http.trusted_proxies shows that clients of other machines reach it, nor \
         if auth.htpasswd or an auth.rule is set, or the file of users has a line or has had one since the daemon \
         started. A registry that is open because of loopback accepts only requests to IP addresses and to names of \
         a LAN, as a protection against DNS rebinding."
    ),
    key!(
        "auth.remember",
        Initial::Value("\"5m\""),
        auth.settings.remember,
        DURATION,
        "The time for which a verified password is trusted without verifying it again. It is cached as a keyed hash, in \
         memory, for a day; during that day wrong passwords of other clients never cause it to be refused."
    ),
    key!(
        "auth.challenge",
        Initial::Unset("\"bearer\""),
        auth.settings.challenge,
        Optional(Choice(&[("basic", Challenge::Basic), ("bearer", Challenge::Bearer)])),
        "How clients are asked to log in: \"basic\", with a password in each request, or \"bearer\", with a token from \
         /token, which clients get for a password or anonymously. If not set, it is \"bearer\" if anonymous clients have \
         rights, by auth.anonymous or by a rule for \"-\", and \"basic\" otherwise. With \"basic\" and anonymous pulls, \
         docker login accepts any password and docker push fails. A password is accepted with either."
    ),
    key!(
        "auth.token",
        Initial::Value("\"5m\""),
        auth.settings.token,
        TOKEN_LIFETIME,
        "The lifetime of a token, from 1m to 1d. A token ends earlier if its password, user or rule changes."
    ),
    key!(
        "auth.rule",
        Initial::Unset(""),
        auth.settings.rules,
        Rules { keys: RULE_KEYS, check: |_: &Rule| None },
        "The rights of users. Without a rule that names users, every user has all rights. Every user has at least the \
         rights of anonymous clients. A rule for \"-\" does not open the admin page. Users who may pull, push and delete \
         in the repositories \"*\" also manage users and maintenance on the admin page. The admin page keeps its own rules \
         in the file rules.toml in the data directory, in the same form. A name that a rule of the configuration has, \"*\" and \
         \"-\" included, gets nothing by the rules of that file, and neither does \"-\" where auth.anonymous is set."
    ),
];

const RULE_KEYS: &[Key<Rule>] = &[
    key!(
        "auth.rule.users",
        Initial::Required("[\"ci\"]"),
        users,
        List(USER, 0),
        "\"*\": all users that log in; \"-\": anonymous clients"
    ),
    key!(
        "auth.rule.repositories",
        Initial::Required("[\"team/*\"]"),
        repositories,
        List(PATTERN, 0),
        "\"*\" matches any text"
    ),
    key!(
        "auth.rule.allow",
        Initial::Required("[\"pull\", \"push\"]"),
        allow,
        List(
            Choice(&[
                ("pull", Action::Pull),
                ("push", Action::Push),
                ("delete", Action::Delete),
                ("catalog", Action::Catalog)
            ]),
            0
        ),
        "pull, push, delete, catalog"
    ),
];

/// Sets the files in the data directory: the default of `auth.htpasswd`, and the rules of the admin page.
pub(in crate::config) fn finish_auth(config: &mut Config) {
    if !config.auth.htpasswd_is_set {
        config.auth.settings.htpasswd = htpasswd_in(&config.storage.path);
    }
    config.auth.settings.page_rules = page_rules_in(&config.storage.path);
}
