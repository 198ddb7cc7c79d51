//! Readers of settings that are more than another name for a key of Holdfast.

use super::place::title_case;
use super::reading::{Reading, Setting};
use super::yaml::Yaml;
use crate::config::item::{Entry, Item, Shape, Value, list};
use crate::config::problem::Problem;
use crate::config::values::parse_duration;

/// Reads a setting into the configuration.
pub(super) type Reader = fn(&mut Reading, &Setting) -> Result<(), Problem>;

/// The time that running requests have when the daemon stops, in seconds.
const DRAIN: u64 = 30;

/// Checks `version`: only 0.1 exists.
pub(super) fn version(_: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    if setting.text()? == "0.1" { Ok(()) } else { Err(setting.wrong("0.1")) }
}

/// Reads `log.accesslog.disabled`, the inverse of `log.access`.
pub(super) fn access_log(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    let item = Item { value: Value::Flag(!setting.flag()?), place: setting.written() };
    reading.set_item("log.access", setting, item);
    Ok(())
}

/// Reads `log.formatter`.
pub(super) fn formatter(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    let format = match setting.text()? {
        "" | "text" => "text",
        "json" => "json",
        "logstash" => {
            reading.ignore(setting, "logstash is not supported, the log is written as json");
            "json"
        }
        _ => return Err(setting.wrong("text, json or logstash")),
    };
    reading.set("log.format", setting, format);
    Ok(())
}

/// Reads the old name of `log.level`; a value of the new name overrides it.
pub(super) fn old_log_level(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    if reading.has("log.level") { Ok(()) } else { reading.set_value("log.level", setting) }
}

/// Reads the driver `filesystem` without its directory; `needs_root` sets the default directory of registry:2.
pub(super) fn filesystem(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    match &setting.value {
        Yaml::Null => {
            reading.note(setting);
            Ok(())
        }
        Yaml::Text { .. } | Yaml::List(_) | Yaml::Map(_) => Err(setting.wrong("a map with rootdirectory")),
    }
}

/// Reads `storage.maintenance.uploadpurging.enabled`, which cannot be switched off here.
pub(super) fn purging(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    if !setting.flag()? {
        reading.ignore(setting, "unfinished uploads always expire, after uploads.expire");
    }
    Ok(())
}

/// Reads `storage.maintenance.uploadpurging.age`.
pub(super) fn purging_age(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    let seconds = go_duration(setting.text()?);
    let seconds = seconds.ok_or_else(|| setting.wrong("a duration like 168h or 2h10m"))?;
    reading.set("uploads.expire", setting, format!("{seconds}s"));
    Ok(())
}

/// Checks `http.net`: a Unix socket is refused.
pub(super) fn network(_: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    match setting.text()? {
        "" | "tcp" | "tcp4" | "tcp6" => Ok(()),
        _ => Err(setting.unsupported(
            "Holdfast listens on TCP only; put a proxy that listens on a Unix socket in front of it, or use systemd",
        )),
    }
}

/// Reads `http.host`, the external URL.
pub(super) fn host(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    let url = setting.text()?.trim_end_matches('/');
    if !url.is_empty() {
        reading.set("http.external_url", setting, url);
    }
    Ok(())
}

/// Refuses an `http.prefix`.
pub(super) fn prefix(_: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    match setting.text()? {
        "" | "/" => Ok(()),
        _ => Err(setting.unsupported(
            "the API of Holdfast is at /v2/, where Docker expects it; let the proxy remove the prefix",
        )),
    }
}

/// Reads `http.draintimeout`, which is fixed here.
pub(super) fn drain(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    let seconds = go_duration(setting.text()?);
    let seconds = seconds.ok_or_else(|| setting.wrong("a duration like 60s"))?;
    if seconds != DRAIN && seconds != 0 {
        reading.ignore(setting, "running requests always have 30 seconds when the daemon stops");
    }
    Ok(())
}

/// Reads `http.tls.certificate`.
pub(super) fn certificate(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    tls_file(reading, setting, "tls.certificate")
}

/// Reads `http.tls.key`.
pub(super) fn key(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    tls_file(reading, setting, "tls.key")
}

fn tls_file(reading: &mut Reading, setting: &Setting, key: &str) -> Result<(), Problem> {
    if setting.text()?.is_empty() {
        return Ok(());
    }
    reading.set("tls.mode", setting, "files");
    reading.set_value(key, setting)
}

/// Reads `http.tls.clientauth`: client certificates are required, or not requested.
pub(super) fn client_auth(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    match setting.text()? {
        "" => Ok(()),
        "require-and-verify-client-cert" if reading.has("http.tls.clientcas") => {
            reading.note(setting);
            Ok(())
        }
        "require-and-verify-client-cert" => Err(setting.unsupported(
            "it requires certificates from clients, and needs the authorities that issue them: REGISTRY_HTTP_TLS_CLIENTCAS",
        )),
        _ => Err(setting.unsupported(
            "Holdfast either requires a certificate and verifies it, or does not ask for one; use require-and-verify-client-cert",
        )),
    }
}

/// Reads `http.tls.minimumtls`.
pub(super) fn minimum_tls(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    let version = match setting.text()?.to_ascii_lowercase().as_str() {
        // rustls has no older versions.
        "" | "tls1.0" | "tls1.1" | "tls1.2" => "1.2",
        "tls1.3" => "1.3",
        _ => return Err(setting.wrong("tls1.2 or tls1.3")),
    };
    reading.set("tls.minimum", setting, version);
    Ok(())
}

/// Refuses Let's Encrypt. If a certificate is configured, registry:2 does not use Let's Encrypt either.
pub(super) fn lets_encrypt(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    let has_certificate = reading.has("http.tls.certificate") || reading.has("http.tls.key");
    if has_certificate || setting.value.asks_for_nothing() {
        return Ok(());
    }
    Err(setting.unsupported(
        "Holdfast does not get certificates from Let's Encrypt, and would respond by plain HTTP; set \
         REGISTRY_HTTP_TLS_CERTIFICATE and REGISTRY_HTTP_TLS_KEY, or HOLDFAST_TLS_MODE=auto for a certificate of its own \
         authority",
    ))
}

/// Reads `http.headers`, a map.
pub(super) fn headers(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
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

/// Reads one header, a setting below `http.headers`.
pub(super) fn header(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    let name = setting.place.strip_prefix("http.headers.").unwrap_or_default();
    put_header(reading, setting, name, &setting.value)
}

fn put_header(reading: &mut Reading, setting: &Setting, name: &str, value: &Yaml) -> Result<(), Problem> {
    let place = setting.written();
    let values = match value {
        Yaml::List(items) => setting.texts(items)?,
        Yaml::Text { text, plain: true } => list(text, &place),
        Yaml::Text { text, plain: false } => vec![Item::text(text.as_str(), place.clone())],
        Yaml::Null => Vec::new(),
        Yaml::Map(_) => return Err(setting.wrong("a list of values of a header")),
    };
    let entry = Entry { key: title_case(name), place, item: setting.list(values) };
    reading.given.set_entry("http.headers", entry);
    reading.note(setting);
    Ok(())
}

/// Reads `catalog.maxentries`.
pub(super) fn most_entries(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    let item = setting.item(Shape::Number)?;
    match item.value {
        // A number below one means the default, as in registry:2.
        Value::Number(number) if number < 1 => {}
        Value::Number(_) => reading.set_item("limits.list_max", setting, item),
        Value::Text(_) | Value::Flag(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => {
            return Err(setting.wrong("a number"));
        }
    }
    Ok(())
}

/// Reads a duration as Go writes it, `1h30m` or a number of nanoseconds, in whole seconds.
fn go_duration(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(nanoseconds) = text.parse::<u64>() {
        return Some(nanoseconds / 1_000_000_000);
    }
    // Go has no days, and no spaces between the parts.
    let is_of_go = text.bytes().all(|byte| byte.is_ascii_digit() || b"hms".contains(&byte));
    parse_duration(text).filter(|_| is_of_go).map(|duration| duration.as_secs())
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
