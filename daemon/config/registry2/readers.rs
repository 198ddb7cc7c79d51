//! Settings that are more than another name for a key of Holdfast.

use toml::{Table, Value};

use super::yaml::Yaml;
use super::{Reading, Setting};
use crate::config::environment::{Kind, list, set, title_case, typed};
use crate::config::{ConfigError, values};

/// Reads a setting into the configuration.
pub(super) type Reader = fn(&mut Reading, &Setting) -> Result<(), ConfigError>;

/// How long requests have when the daemon stops, in seconds.
const DRAIN: u64 = 30;

impl Setting {
    /// An error about the value.
    pub(super) fn wrong(&self, allowed: &str) -> ConfigError {
        let value = match &self.value {
            Yaml::Null => String::new(),
            Yaml::Text { text, .. } => text.clone(),
            Yaml::List(_) => "a list".into(),
            Yaml::Map(_) => "a map".into(),
        };
        values::wrong(&self.name, &value, allowed)
    }

    pub(super) fn refused(&self, why: &'static str) -> ConfigError {
        ConfigError::Refused { name: self.name.clone(), why }
    }

    pub(super) fn text(&self) -> Result<&str, ConfigError> {
        match &self.value {
            Yaml::Text { text, .. } => Ok(text),
            Yaml::Null => Ok(""),
            Yaml::List(_) | Yaml::Map(_) => Err(self.wrong("a text")),
        }
    }

    fn flag(&self) -> Result<bool, ConfigError> {
        Ok(self.typed(Kind::Bool)?.as_bool().unwrap_or_default())
    }

    /// Returns the value as one of a key of Holdfast.
    pub(super) fn typed(&self, kind: Kind) -> Result<Value, ConfigError> {
        match (kind, &self.value) {
            (Kind::List, Yaml::List(items)) => self.texts(items).map(Value::Array),
            (Kind::List, Yaml::Null) => Ok(Value::Array(Vec::new())),
            (Kind::List | Kind::Text | Kind::Number | Kind::Bool, _) => typed(&self.name, self.text()?, kind),
        }
    }

    fn texts(&self, items: &[Yaml]) -> Result<Vec<Value>, ConfigError> {
        let text = |item: &Yaml| match item {
            Yaml::Text { text, .. } => Ok(Value::from(text.as_str())),
            Yaml::Null | Yaml::List(_) | Yaml::Map(_) => Err(self.wrong("a list of texts")),
        };
        items.iter().map(text).collect()
    }
}

pub(super) fn version(_: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    if setting.text()? == "0.1" { Ok(()) } else { Err(setting.wrong("0.1")) }
}

pub(super) fn access_log(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    reading.set("log.access", setting, (!setting.flag()?).into());
    Ok(())
}

pub(super) fn formatter(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    let format = match setting.text()? {
        "" | "text" => "text",
        "json" => "json",
        "logstash" => {
            reading.ignore(setting, "logstash is written as json");
            "json"
        }
        _ => return Err(setting.wrong("text, json or logstash")),
    };
    reading.set("log.format", setting, format.into());
    Ok(())
}

/// The name that `log.level` had, which wins.
pub(super) fn old_log_level(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    if !reading.has("log.level") {
        reading.set("log.level", setting, setting.typed(Kind::Text)?);
    }
    Ok(())
}

/// The driver alone, without a directory: its default is another one in a file of registry:2.
pub(super) fn filesystem(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    match &setting.value {
        Yaml::Null => {
            reading.take(setting);
            Ok(())
        }
        Yaml::Text { .. } | Yaml::List(_) | Yaml::Map(_) => Err(setting.wrong("a map with rootdirectory")),
    }
}

pub(super) fn purging(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    if !setting.flag()? {
        reading.ignore(setting, "unfinished uploads always expire, after uploads.expire");
    }
    Ok(())
}

pub(super) fn purging_age(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    let seconds = go_duration(setting.text()?);
    let seconds = seconds.ok_or_else(|| setting.wrong("a duration like 168h or 2h10m"))?;
    reading.set("uploads.expire", setting, format!("{seconds}s").into());
    Ok(())
}

pub(super) fn network(_: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    match setting.text()? {
        "" | "tcp" | "tcp4" | "tcp6" => Ok(()),
        _ => Err(setting.refused(
            "Holdfast listens on TCP only; put a proxy that listens on a Unix socket before it, or use systemd",
        )),
    }
}

pub(super) fn host(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    let url = setting.text()?.trim_end_matches('/');
    if !url.is_empty() {
        reading.set("http.external_url", setting, url.into());
    }
    Ok(())
}

pub(super) fn prefix(_: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    match setting.text()? {
        "" | "/" => Ok(()),
        _ => Err(setting.refused(
            "the API of Holdfast is at /v2/, where Docker looks for it; let the proxy remove the prefix",
        )),
    }
}

pub(super) fn drain(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    let seconds = go_duration(setting.text()?);
    let seconds = seconds.ok_or_else(|| setting.wrong("a duration like 60s"))?;
    if seconds != DRAIN && seconds != 0 {
        reading.ignore(setting, "requests that go on always have 30 seconds when the daemon stops");
    }
    Ok(())
}

pub(super) fn certificate(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    tls_file(reading, setting, "tls.certificate")
}

pub(super) fn key(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    tls_file(reading, setting, "tls.key")
}

fn tls_file(reading: &mut Reading, setting: &Setting, key: &str) -> Result<(), ConfigError> {
    if setting.text()?.is_empty() {
        return Ok(());
    }
    reading.set("tls.mode", setting, "files".into());
    reading.set(key, setting, setting.typed(Kind::Text)?);
    Ok(())
}

pub(super) fn client_auth(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    match setting.text()? {
        "" => Ok(()),
        "require-and-verify-client-cert" if reading.has("http.tls.clientcas") => {
            reading.take(setting);
            Ok(())
        }
        "require-and-verify-client-cert" => Err(setting.refused(
            "it asks clients for certificates and needs the authorities of those, REGISTRY_HTTP_TLS_CLIENTCAS",
        )),
        _ => Err(setting.refused(
            "Holdfast asks clients for a certificate and verifies it, or does not ask (require-and-verify-client-cert)",
        )),
    }
}

pub(super) fn minimum_tls(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    let version = match setting.text()?.to_ascii_lowercase().as_str() {
        // There is no older one.
        "" | "tls1.0" | "tls1.1" | "tls1.2" => "1.2",
        "tls1.3" => "1.3",
        _ => return Err(setting.wrong("tls1.2 or tls1.3")),
    };
    reading.set("tls.minimum", setting, version.into());
    Ok(())
}

/// Where there is a certificate registry:2 does not ask for another one.
pub(super) fn lets_encrypt(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    let has_certificate = reading.has("http.tls.certificate") || reading.has("http.tls.key");
    if has_certificate || super::says_nothing(&setting.value) {
        return Ok(());
    }
    Err(setting.refused(
        "Holdfast does not get certificates of Let's Encrypt, and would answer by plain HTTP; set \
         REGISTRY_HTTP_TLS_CERTIFICATE and REGISTRY_HTTP_TLS_KEY, or HOLDFAST_TLS_MODE=auto for an authority of its own",
    ))
}

pub(super) fn headers(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    let entries = match &setting.value {
        Yaml::Null => return Ok(()),
        Yaml::Map(entries) => entries,
        Yaml::Text { .. } | Yaml::List(_) => {
            return Err(setting.wrong("a map of headers, each with a list of values"));
        }
    };
    for (name, value) in entries {
        put_header(reading, setting, name, value)?;
    }
    Ok(())
}

pub(super) fn header(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    let name = setting.place.strip_prefix("http.headers.").unwrap_or_default();
    put_header(reading, setting, name, &setting.value)
}

fn put_header(reading: &mut Reading, setting: &Setting, name: &str, value: &Yaml) -> Result<(), ConfigError> {
    let values = match value {
        Yaml::List(items) => Value::Array(setting.texts(items)?),
        Yaml::Text { text, plain: true } => list(text),
        Yaml::Text { text, plain: false } => Value::Array(vec![text.as_str().into()]),
        Yaml::Null => Value::Array(Vec::new()),
        Yaml::Map(_) => return Err(setting.wrong("a list of values of a header")),
    };
    set(reading.table, "http.headers", Value::Table(Table::new()));
    if let Some(headers) = reading.table["http"]["headers"].as_table_mut() {
        headers.insert(title_case(name), values);
    }
    reading.take(setting);
    Ok(())
}

pub(super) fn most_entries(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    let most = setting.typed(Kind::Number)?;
    // As there, a number below one means the default.
    if most.as_integer().is_some_and(|most| most > 0) {
        reading.set("limits.list_max", setting, most);
    }
    Ok(())
}

/// Reads a duration as Go writes it, `1h30m` or a number of nanoseconds, in whole seconds.
fn go_duration(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if let Ok(nanoseconds) = rest.parse::<u64>() {
        return Some(nanoseconds / 1_000_000_000);
    }
    let mut milliseconds: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        rest = &rest[letters..];
        milliseconds = milliseconds.checked_add(number.checked_mul(unit)?)?;
    }
    (!text.trim().is_empty()).then_some(milliseconds / 1000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_durations_of_go() {
        for (text, seconds) in
            [("168h", 604_800), ("2h10m", 7800), ("60s", 60), ("1500ms", 1), ("0s", 0), ("30000000000", 30)]
        {
            assert_eq!(go_duration(text), Some(seconds), "{text}");
        }
        for text in ["", "h", "1", "1x", "1d", "-1s", "1h 2m", "99999999999999999999h"] {
            assert_eq!(go_duration(text), (text == "1").then_some(0), "{text}");
        }
    }

    proptest! {
        #[test]
        fn durations_never_panic(text in "[0-9hmsé. -]{0,30}") {
            let _ = go_duration(&text);
        }
    }
}
