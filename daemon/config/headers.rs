//! The format of `[http.headers]`: headers that every response gets.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use super::format::{Describe, Format, List, ListOrText, collect};
use super::item::{Entry, Item, Shape, Value};
use super::problem::Problem;
use super::text_formats::TEXT;
use crate::wire::describes_one_response;

/// Names of headers, each with a list of values.
pub(super) struct Headers;

impl Describe for Headers {
    fn shape(&self) -> Shape {
        Shape::Table
    }

    fn allowed(&self) -> String {
        "a table with a list of values for each header".to_owned()
    }
}

impl Format<BTreeMap<String, Vec<String>>> for Headers {
    fn read(&self, name: &str, item: &Item) -> Result<BTreeMap<String, Vec<String>>, Vec<Problem>> {
        let Value::Table(entries) = &item.value else {
            return Err(vec![Problem::value(name, item, self.allowed())]);
        };
        let headers: BTreeMap<_, _> =
            collect(entries.iter().map(|entry| header(name, entry)))?.into_iter().collect();
        if allows_credentials_everywhere(&headers) {
            let reason = "http.headers allows credentials for every origin, which browsers refuse; name the origin \
                          instead of *";
            return Err(vec![Problem::Conflict { place: Some(item.place.clone()), reason }]);
        }
        Ok(headers)
    }

    fn show(&self, headers: &BTreeMap<String, Vec<String>>) -> Option<toml::Value> {
        let entry = |(name, values): (&String, &Vec<String>)| (name.clone(), values.clone().into());
        Some(toml::Value::Table(headers.iter().map(entry).collect()))
    }
}

fn header(name: &str, entry: &Entry) -> Result<(String, Vec<String>), Vec<Problem>> {
    let refused = |allowed: &str| {
        let (place, found) = (Some(entry.place.clone()), format!("{:?}", entry.key));
        Err(vec![Problem::Value { place, key: name.to_owned(), found, allowed: allowed.to_owned() }])
    };
    let Ok(header_name) = entry.key.parse::<HeaderName>() else {
        return refused("the name of a header");
    };
    if describes_one_response(&header_name) {
        return refused("a header that is the same for every response");
    }
    let full = format!("{name}.{}", entry.key);
    let values: Vec<String> = ListOrText(List(TEXT, 0)).read(&full, &entry.item)?;
    let invalid = entry.item.texts().filter(|(value, _)| value.parse::<HeaderValue>().is_err());
    let problems: Vec<_> =
        invalid.map(|(_, item)| Problem::value(&full, item, "a value that a header can have")).collect();
    if problems.is_empty() { Ok((entry.key.clone(), values)) } else { Err(problems) }
}

fn allows_credentials_everywhere(headers: &BTreeMap<String, Vec<String>>) -> bool {
    let has = |wanted: &str, value: &str| {
        let mut named = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.any(|(_, values)| values.iter().any(|known| known == value))
    };
    has("Access-Control-Allow-Credentials", "true") && has("Access-Control-Allow-Origin", "*")
}
