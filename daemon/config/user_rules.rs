//! Rules of users in a file of their own, in the form of the configuration file: tables `[[auth.rule]]`, and no other key.

use super::definitions::key;
use super::file;
use super::given::Given;
use super::problem::{ConfigError, Problem};
use super::settings::Config;
use super::show::rule_tables;
use crate::access::{Rule, RulesFormat};

/// The only key of such a file.
const KEY: &str = "auth.rule";

/// Reads and writes such files.
pub const USER_RULES: RulesFormat = RulesFormat { parse: parse_user_rules, show: format_user_rules };

/// Parses the text of the file `name`. Returns all mistakes in one line.
fn parse_user_rules(name: &str, text: &str) -> Result<Vec<Rule>, String> {
    let (mut given, mut problems, mut config) = (Given::default(), Vec::new(), Config::default());
    file::read(name, text, &mut given, &mut problems);
    let others = given.keys().filter(|(name, _)| *name != KEY);
    problems.extend(others.map(|(name, place)| Problem::Unknown {
        place: place.clone(),
        name: name.clone(),
        suggestion: Some(KEY.into()),
    }));
    if let (Some(item), Some(key)) = (given.get(KEY), key(KEY)) {
        problems.extend((key.read)(&mut config, KEY, item).err().into_iter().flatten());
    }
    if problems.is_empty() {
        return Ok(config.auth.settings.rules);
    }
    Err(ConfigError::new(problems).to_string())
}

/// Formats rules as a text that [`parse_user_rules`] reads back.
fn format_user_rules(rules: &[Rule]) -> String {
    let mut config = Config::default();
    config.auth.settings.rules = rules.to_vec();
    let shown = key(KEY).and_then(|key| (key.show)(&config));
    shown.map(|rules| rule_tables(KEY, &rules)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Action;

    #[test]
    fn rules_read_back_as_they_were_written() {
        let rules = [
            Rule {
                users: vec!["ci".into(), "-".into()],
                repositories: vec!["team/*".to_owned().into(), "a\"b".to_owned().into()],
                allow: vec![Action::Pull, Action::Catalog],
            },
            Rule { users: vec!["*".into()], repositories: vec!["*".to_owned().into()], allow: vec![] },
        ];
        assert_eq!(parse_user_rules("rules.toml", &format_user_rules(&rules)).unwrap(), rules);
        assert_eq!(format_user_rules(&[]), "");
        assert_eq!(parse_user_rules("rules.toml", "# none\n").unwrap(), []);
    }

    #[test]
    fn mistakes_are_named_with_their_places() {
        for (text, part) in [
            ("[[auth.rule]]\nusers = [\"a\"]\n", "rules.toml:1:"),
            ("[[auth.rule]]\nusers = \"a\"\n", "auth.rule.users"),
            ("auth.anonymous = \"full\"\n", "unknown key auth.anonymous"),
            ("[storage]\npath = \"/x\"\n", "unknown key storage.path"),
            ("half a line", "rules.toml:1:"),
        ] {
            let error = parse_user_rules("rules.toml", text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
