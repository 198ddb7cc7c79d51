//! The format of `log.access`: with the other lines, nowhere, or a file.

use std::path::Path;

use super::format::{Describe, Format};
use super::item::{Item, Shape, Value};
use super::problem::Problem;
use crate::service::AccessLog;

/// `true`, `false`, or the path of a file.
pub(super) struct AccessLogPlace;

impl Describe for AccessLogPlace {
    fn shape(&self) -> Shape {
        Shape::Flag
    }

    fn allowed(&self) -> String {
        "true, false, or the absolute path of a file".to_owned()
    }
}

impl Format<AccessLog> for AccessLogPlace {
    fn read(&self, name: &str, item: &Item) -> Result<AccessLog, Vec<Problem>> {
        match &item.value {
            Value::Flag(true) => Ok(AccessLog::On),
            Value::Flag(false) => Ok(AccessLog::Off),
            Value::Text(text) if Path::new(text).is_absolute() && !text.ends_with('/') => {
                Ok(AccessLog::File(text.into()))
            }
            Value::Text(text) if text == "on" => Ok(AccessLog::On),
            Value::Text(text) if text == "off" => Ok(AccessLog::Off),
            Value::Text(_) | Value::Number(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => {
                Err(vec![Problem::value(name, item, self.allowed())])
            }
        }
    }

    fn show(&self, value: &AccessLog) -> Option<toml::Value> {
        Some(match value {
            AccessLog::On => true.into(),
            AccessLog::Off => false.into(),
            AccessLog::File(path) => path.display().to_string().into(),
        })
    }
}
