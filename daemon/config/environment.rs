//! The environment: `HOLDFAST_*` for every key that is no table. The `REGISTRY_*` names of compose files are read in
//! [`super::registry2`].

use toml::{Table, Value};

use super::values::wrong;
use super::{ConfigError, registry2};

/// The kind of value that a key has.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Number,
    Bool,
    List,
}

/// Every key that has a name in the environment.
const KEYS: [(&str, Kind); 52] = [
    ("listen", Kind::List),
    ("registry.read_only", Kind::Bool),
    ("registry.compatible_files", Kind::List),
    ("storage.path", Kind::Text),
    ("storage.delete", Kind::Bool),
    ("storage.index_map_size", Kind::Text),
    ("storage.reserve", Kind::Text),
    ("storage.quota", Kind::Text),
    ("tls.mode", Kind::Text),
    ("tls.certificate", Kind::Text),
    ("tls.key", Kind::Text),
    ("tls.names", Kind::List),
    ("tls.client_ca", Kind::List),
    ("tls.minimum", Kind::Text),
    ("auth.realm", Kind::Text),
    ("auth.htpasswd", Kind::Text),
    ("auth.anonymous", Kind::Text),
    ("auth.remember", Kind::Text),
    ("auth.challenge", Kind::Text),
    ("auth.token", Kind::Text),
    ("http.external_url", Kind::Text),
    ("http.trusted_proxies", Kind::List),
    ("limits.connections", Kind::Number),
    ("limits.connections_per_address", Kind::Number),
    ("limits.header_bytes", Kind::Text),
    ("limits.header_time", Kind::Text),
    ("limits.body_stall", Kind::Text),
    ("limits.minimum_rate", Kind::Text),
    ("limits.socket_buffer", Kind::Text),
    ("limits.list_max", Kind::Number),
    ("limits.manifest_descriptors", Kind::Number),
    ("limits.uploads", Kind::Number),
    ("limits.unfinished_uploads", Kind::Number),
    ("limits.tags_per_repository", Kind::Number),
    ("limits.names", Kind::Number),
    ("log.level", Kind::Text),
    ("log.lines_per_address", Kind::Number),
    ("log.format", Kind::Text),
    ("log.access", Kind::Bool),
    ("gc.interval", Kind::Text),
    ("gc.grace", Kind::Text),
    ("uploads.expire", Kind::Text),
    ("service.idle", Kind::Text),
    ("service.control", Kind::Text),
    ("admin.enabled", Kind::Bool),
    ("admin.title", Kind::Text),
    ("admin.users", Kind::List),
    ("admin.delete", Kind::Bool),
    ("admin.session", Kind::Text),
    ("metrics.enabled", Kind::Bool),
    ("metrics.access", Kind::Text),
    ("metrics.file", Kind::Text),
];

/// The names of the user interface that people run beside registry:2. They say nothing about the registry itself.
const INTERFACE: [(&str, &str); 2] = [("REGISTRY_TITLE", "admin.title"), ("DELETE_IMAGES", "admin.delete")];

/// What the environment had.
#[derive(Default)]
pub(super) struct Found {
    /// Whether a name of registry:2 had an effect.
    pub(super) registry: bool,
    /// Whether `REGISTRY_AUTH` or one like it was among them.
    pub(super) registry_auth: bool,
    /// Names that have no effect.
    pub(super) warnings: Vec<String>,
    /// Names that had an effect.
    pub(super) names: Vec<String>,
}

/// Every key, for the test that each is documented.
/// Returns true for names that look like settings of registry:2 and are those of others: podman and skopeo keep their
/// credentials in `REGISTRY_AUTH_FILE`, and Kubernetes names services called `registry-auth` and `registry-storage`.
pub(super) fn is_of_other_programs(name: &str) -> bool {
    let rest = name.strip_prefix("REGISTRY_AUTH_").or_else(|| name.strip_prefix("REGISTRY_STORAGE_"));
    name == "REGISTRY_AUTH_FILE"
        || rest
            .is_some_and(|rest| rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_"))
}

/// Takes a name out of the environment; returns its value if that is not empty.
pub(super) fn take(environment: &mut Vec<(String, String)>, name: &str) -> Option<String> {
    let value = environment.iter().find(|(one, _)| one == name).map(|(_, value)| value.clone());
    environment.retain(|(one, _)| one != name);
    value.filter(|value| !value.is_empty())
}

#[cfg(test)]
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.into_iter().map(|(key, _)| key)
}

/// Puts what a file of registry:2, with its name, and the environment say into the table; what registry:2 knows first.
pub(super) fn apply(
    file: Option<(&str, &str)>,
    environment: impl IntoIterator<Item = (String, String)>,
    table: &mut Table,
) -> Result<Found, ConfigError> {
    let mut found = Found::default();
    let (mut own, mut registry) = (Vec::new(), Vec::new());
    let mut pairs: Vec<(String, String)> = environment.into_iter().collect();
    // The shorter of two names is first, so that a section does not replace what is below it.
    pairs.sort();
    for (name, value) in pairs {
        if name.starts_with("HOLDFAST_") {
            own.push((name, value));
        } else if let Some((_, key)) = INTERFACE.into_iter().find(|(known, _)| *known == name) {
            set(table, key, typed(&name, &value, kind_of(key))?);
            found.names.push(name);
        } else if name.starts_with("REGISTRY_") {
            registry.push((name, value));
        }
    }
    registry2::apply(file, &registry, table, &mut found)?;
    for (name, value) in own {
        let key = KEYS.into_iter().find(|(key, _)| name == name_of(key));
        let Some((key, kind)) = key else { return Err(ConfigError::UnknownName(name)) };
        set(table, key, typed(&name, &value, kind)?);
        found.names.push(name);
    }
    Ok(found)
}

/// Returns the list that the environment gives a key, if it does.
pub(super) fn own_list(environment: &[(String, String)], key: &str) -> Option<Vec<String>> {
    let name = name_of(key);
    let value = environment.iter().find(|(known, _)| *known == name).map(|(_, value)| list(value))?;
    let items = value.as_array().into_iter().flatten();
    Some(items.filter_map(|item| item.as_str().map(str::to_owned)).collect())
}

fn name_of(key: &str) -> String {
    format!("HOLDFAST_{}", key.replace('.', "_").to_ascii_uppercase())
}

/// Returns the kind of value that a key has.
pub(super) fn kind_of(key: &str) -> Kind {
    KEYS.into_iter().find(|(known, _)| *known == key).map_or(Kind::Text, |(_, kind)| kind)
}

/// Reads the value of a key from a text.
pub(super) fn typed(name: &str, value: &str, kind: Kind) -> Result<Value, ConfigError> {
    Ok(match kind {
        Kind::Text => value.into(),
        Kind::List => list(value),
        Kind::Number => Value::Integer(value.trim().parse().map_err(|_| wrong(name, value, "a number"))?),
        // As YAML has them, too.
        Kind::Bool => match value.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" | "y" => true.into(),
            "false" | "0" | "no" | "off" | "n" => false.into(),
            _ => return Err(wrong(name, value, "true or false")),
        },
    })
}

/// A list as people write it: with commas, or as YAML's `['a', "b"]`.
pub(super) fn list(value: &str) -> Value {
    let inner = value.trim();
    let inner = inner.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(inner);
    let items = inner.split(',').map(|item| item.trim().trim_matches(['\'', '"']));
    Value::Array(items.filter(|item| !item.is_empty()).map(Value::from).collect())
}

/// Writes the name of a header as it is usual.
pub(super) fn title_case(name: &str) -> String {
    let parts = name.split('-').map(|part| {
        let lower = part.to_ascii_lowercase();
        let mut letters = lower.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    parts.collect::<Vec<_>>().join("-")
}

/// Sets a key of one or two parts; a table that is there already is not replaced by an empty one.
pub(super) fn set(table: &mut Table, key: &str, value: Value) {
    let Some((section, key)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return;
    };
    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    let Some(section) = section.as_table_mut() else { return };
    if value.as_table().is_some() {
        section.entry(key).or_insert(value);
    } else {
        section.insert(key.to_owned(), value);
    }
}
