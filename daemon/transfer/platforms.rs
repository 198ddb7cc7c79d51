//! The platforms that an import or an export takes from an index.

use super::links::Child;
use crate::oci::{Pattern, Platform};

/// Platforms of an index; all without any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlatformFilter(Vec<String>);

impl PlatformFilter {
    /// Parses platforms, such as `linux/arm64` and `linux/arm/v7`; `*` matches as in rules.
    ///
    /// # Errors
    /// Returns the reason, in words.
    pub fn parse<'a>(platforms: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut all = Vec::new();
        for text in platforms {
            let is_part = |part: &str| {
                !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-*".contains(&b))
            };
            if !(2..=3).contains(&text.split('/').count()) || !text.split('/').all(is_part) {
                return Err(format!("{text}: a platform is OS/ARCHITECTURE[/VARIANT]"));
            }
            all.push(text.to_owned());
        }
        Ok(PlatformFilter(all))
    }

    /// Returns true if all platforms are taken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the platforms in the order of the operator.
    pub fn platforms(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    fn matches(&self, platform: &Platform) -> bool {
        self.is_empty() || self.platforms().any(|wanted| is_platform(platform, wanted))
    }

    /// Returns the manifests of an index that are taken: those of the platforms, what is attached to them, and all without a
    /// platform.
    pub(super) fn chosen<'a>(&self, children: &'a [Child]) -> impl Iterator<Item = &'a Child> {
        let is_of_platform =
            |child: &Child| child.platform.as_ref().is_some_and(|platform| self.matches(platform));
        let is_chosen = move |child: &&Child| match (&child.platform, &child.attached_to) {
            _ if self.is_empty() => true,
            (Some(platform), _) => self.matches(platform),
            (None, Some(target)) => {
                children.iter().any(|other| other.item.digest == *target && is_of_platform(other))
            }
            (None, None) => true,
        };
        children.iter().filter(is_chosen)
    }

    /// Formats the reason for which an index without these platforms is refused.
    pub(super) fn absence(&self) -> String {
        format!("it has no {}", self.0.join(" or "))
    }
}

/// Returns true if a platform is the wanted one. A variant that is not wanted explicitly does not matter: `linux/arm64` is also
/// `linux/arm64/v8`.
pub(super) fn is_platform(platform: &Platform, wanted: &str) -> bool {
    let text = platform.to_string();
    Pattern::from(wanted.to_owned()).matches(&text) || Pattern::from(format!("{wanted}/*")).matches(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_match_with_any_variant() {
        let platform = |architecture: &str, variant: Option<&str>| Platform {
            os: Some("linux".into()),
            architecture: Some(architecture.into()),
            variant: variant.map(Into::into),
        };
        let filter = PlatformFilter::parse(["linux/arm64", "linux/arm/v7"]).unwrap();
        assert!(filter.matches(&platform("arm64", None)) && filter.matches(&platform("arm64", Some("v8"))));
        assert!(
            filter.matches(&platform("arm", Some("v7"))) && !filter.matches(&platform("arm", Some("v6")))
        );
        assert!(!filter.matches(&platform("amd64", None)));
        assert!(PlatformFilter::default().matches(&platform("amd64", None)));
        for text in ["arm64", "linux/", "linux/arm/v7/x"] {
            assert!(PlatformFilter::parse([text]).unwrap_err().contains("OS/ARCHITECTURE"), "{text}");
        }
    }
}
