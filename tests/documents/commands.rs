//! The commands of each page, run in order by `tests/documents/environment`, and the texts of configurations.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::blocks::Mark;
use super::{Page, pages, source};
use crate::support::*;

const ACME_PAGE: &str = "tls-acme.md";

/// Returns the configuration of the Debian package. Without systemd the daemon makes the control socket itself.
pub fn package_configuration() -> toml::Table {
    let mut make = Command::new(source().join("packaging/configuration"));
    let text = run(make.arg("package").arg(source().join("config/holdfast.toml")));
    let mut table: toml::Table = toml::from_str(&text).unwrap();
    let control = toml::Value::String("/run/holdfast/control.sock".into());
    table["service"].as_table_mut().unwrap().insert("control".into(), control);
    table
}

/// Adds the keys of `new`. Rules come after those that are there.
fn merge(old: &mut toml::Table, new: toml::Table) {
    for (name, value) in new {
        match (old.get_mut(&name), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (Some(toml::Value::Array(old)), toml::Value::Array(new))
                if new.iter().any(toml::Value::is_table) =>
            {
                old.extend(new);
            }
            (_, value) => {
                old.insert(name, value);
            }
        }
    }
}

/// Writes the script of a page: its commands, and its configurations where they stand between them.
fn script(page: &Page, configuration: &mut toml::Table) -> String {
    let mut script = String::from("set -e -o pipefail\n");
    for block in &page.blocks {
        let place = format!("echo '== {}:{}' >&2\n", page.name, block.line);
        if block.language == "toml" && block.mark == Mark::Nothing {
            merge(configuration, toml::from_str(&block.text).unwrap());
            let text = toml::to_string(configuration).unwrap();
            script.push_str(&format!(
                "{place}cat >/etc/holdfast/holdfast.toml <<'END_OF_FILE'\n{text}END_OF_FILE\n\
                 holdfast config check >&2\nsystemctl restart holdfast\n"
            ));
        } else if let Mark::File(path) = &block.mark {
            script.push_str(&format!(
                "{place}{}mkdir -p \"$(dirname {path})\"\ncat >{path} <<'END_OF_FILE'\n{}END_OF_FILE\n",
                block.setup, block.text
            ));
        } else if block.runs() {
            script.push_str(&place);
            script.push_str(&block.setup);
            match &block.mark {
                Mark::Prints(text) => script.push_str(&format!(
                    "{{\n{}}} 2>&1 | tee /run/printed\ngrep -qF -- '{text}' /run/printed || {{ echo 'it did not print: {text}'; exit 1; }}\n",
                    block.commands()
                )),
                _ => script.push_str(&block.commands()),
            }
        }
    }
    script
}

/// Runs a page; `after` are commands that examine what it did.
fn run_page(page: &Page, after: &str) -> Result<(), String> {
    let first = package_configuration();
    let mut configuration = first.clone();
    run_script(&page.name, &first, &(script(page, &mut configuration) + after))
}

/// Runs a script on a copy of this machine with a registry, by `tests/documents/environment`.
pub fn run_script(name: &str, configuration: &toml::Table, script: &str) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("holdfast.toml"), toml::to_string(configuration).unwrap()).unwrap();
    fs::write(at("page"), script).unwrap();
    let output = Command::new("timeout")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TMPDIR", directory.path())
        .env("DOWNLOADED_CLIENTS", tools::place("clients"))
        .args(["-k", "5", "240", "unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--kill-child"])
        .arg(source().join("tests/documents/environment"))
        .args([Path::new(BINARY), &at("holdfast.toml"), &at("page")])
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("{name}: {}\n{out}\n{err}", output.status))
}

#[test]
fn the_commands_of_every_page_run() {
    // The page about ACME has a test of its own.
    let is_wanted = |page: &Page| {
        std::env::var("HOLDFAST_TEST_PAGE").map_or(true, |name| page.name.contains(&name))
            && !page.name.ends_with(ACME_PAGE)
    };
    let mut failures = Vec::new();
    for page in pages().iter().filter(|page| page.blocks.iter().any(|block| block.runs()) && is_wanted(page))
    {
        failures.extend(run_page(page, "").err());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn certificates_of_an_acme_authority_are_served_without_a_restart() {
    let pages = pages();
    let page = pages.iter().find(|page| page.name.ends_with(ACME_PAGE)).unwrap();
    // One start is that of the environment, the other one follows the change of the configuration.
    let after = "test \"$(grep -c started /run/starts)\" = 2\n\
                 before=$(openssl x509 -noout -serial -in /etc/holdfast/tls.crt)\n\
                 sudo certbot renew --force-renewal --no-random-sleep-on-renew\n\
                 test \"$before\" != \"$(openssl x509 -noout -serial -in /etc/holdfast/tls.crt)\"\n\
                 openssl s_client -connect registry.example.com:5000 </dev/null 2>/dev/null >/run/served\n\
                 test \"$(openssl x509 -noout -serial -in /run/served)\" = \
                 \"$(openssl x509 -noout -serial -in /etc/holdfast/tls.crt)\"\n\
                 test \"$(grep -c started /run/starts)\" = 2\n";
    run_page(page, after).unwrap();
}

#[test]
fn configurations_in_the_documents_are_valid() {
    let directory = tempfile::tempdir().unwrap();
    for page in pages() {
        // Those of a page with commands are checked where they stand between them.
        if page.blocks.iter().any(|block| block.runs()) {
            continue;
        }
        for block in
            page.blocks.iter().filter(|block| block.language == "toml" && block.mark == Mark::Nothing)
        {
            let file = directory.path().join("holdfast.toml");
            fs::write(&file, &block.text).unwrap();
            let mut check = Command::new(BINARY);
            let output = check
                .env_clear()
                .arg("config")
                .arg("check")
                .arg(&file)
                .arg("--data")
                .arg(directory.path())
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{}:{}: {text}", page.name, block.line);
        }
    }
}

#[test]
fn json_and_yaml_in_the_documents_can_be_parsed() {
    for page in pages() {
        for block in page.blocks.iter().filter(|block| block.mark != Mark::NotChecked) {
            let place = format!("{}:{}", page.name, block.line);
            match block.language.as_str() {
                "json" => {
                    let values =
                        serde_json::Deserializer::from_str(&block.text).into_iter::<serde_json::Value>();
                    values.for_each(|value| assert!(value.is_ok(), "{place}: {value:?}"));
                }
                "yaml" => saphyr_parser::Parser::new_from_str(&block.text)
                    .for_each(|event| assert!(event.is_ok(), "{place}: {event:?}")),
                _ => {}
            }
        }
    }
}
