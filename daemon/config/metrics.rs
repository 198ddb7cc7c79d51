//! `[metrics]`: the metrics for Prometheus.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::values::wrong;

/// `[metrics]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Whether `/metrics` is there.
    pub enabled: bool,
    /// Who may read it.
    pub access: MetricsAccess,
    /// The file that they are written to as well, each minute and at the end.
    pub file: Option<PathBuf>,
}

/// Who may read `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsAccess {
    /// Clients on this machine.
    Local,
    /// Users with full rights.
    Users,
    /// Everyone.
    Open,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMetrics {
    enabled: Option<bool>,
    access: Option<String>,
    file: Option<PathBuf>,
}

impl RawMetrics {
    pub(super) fn validate(self) -> Result<Metrics, ConfigError> {
        let access = match self.access.as_deref() {
            None | Some("local") => MetricsAccess::Local,
            Some("users") => MetricsAccess::Users,
            Some("open") => MetricsAccess::Open,
            Some(other) => return Err(wrong("metrics.access", other, "local, users or open")),
        };
        if let Some(file) = &self.file
            && (file.file_name().is_none() || !file.is_absolute())
        {
            return Err(wrong("metrics.file", &file.display().to_string(), "the absolute path of a file"));
        }
        Ok(Metrics { enabled: self.enabled.unwrap_or(true), access, file: self.file })
    }
}

impl From<&Metrics> for RawMetrics {
    fn from(metrics: &Metrics) -> Self {
        let access = match metrics.access {
            MetricsAccess::Local => "local",
            MetricsAccess::Users => "users",
            MetricsAccess::Open => "open",
        };
        RawMetrics { enabled: Some(metrics.enabled), access: Some(access.into()), file: metrics.file.clone() }
    }
}
