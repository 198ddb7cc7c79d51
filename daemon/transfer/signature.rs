//! SSH signatures over content lists: made with an ed25519 key, and verified against a file of allowed signers.
//!
//! The format is SSHSIG of OpenSSH, with the namespace `holdfast-export`, so that `ssh-keygen -Y verify` checks a signature without
//! Holdfast. The file of allowed signers is that of ssh-keygen(1): `PRINCIPALS [OPTIONS] KEYTYPE BASE64 [COMMENT]`. Pure: no
//! function reads a file or a clock.

use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};
use time::macros::format_description;
use time::{Date, PrimitiveDateTime, Time};

/// The namespace of signatures over content lists.
pub const NAMESPACE: &str = "holdfast-export";

/// Maximum length of a signature, in bytes; those of OpenSSH keys have less than 2 KiB.
const MAX_SIGNATURE: usize = 16 << 10;

/// The reason why a file is not a key that signs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key has a passphrase.
    #[error("the key has a passphrase")]
    Encrypted,
    /// The key has another type.
    #[error("the key is of type {0}; only ed25519 keys sign exports")]
    Algorithm(String),
    /// The bytes are not a private key of OpenSSH.
    #[error("this is not a private key of OpenSSH ({0})")]
    Format(String),
}

/// A private key that signs content lists.
pub struct SigningKey(PrivateKey);

impl SigningKey {
    /// Parses a private key in the format of OpenSSH.
    ///
    /// # Errors
    /// [`KeyError`] if the key is encrypted, of another type than ed25519, or malformed.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let key = PrivateKey::from_openssh(text).map_err(|error| KeyError::Format(error.to_string()))?;
        if key.is_encrypted() {
            return Err(KeyError::Encrypted);
        }
        match key.algorithm() {
            ssh_key::Algorithm::Ed25519 => Ok(SigningKey(key)),
            other => Err(KeyError::Algorithm(other.to_string())),
        }
    }

    /// Signs content; the same content has the same signature.
    ///
    /// # Errors
    /// [`KeyError::Format`] if the key does not sign.
    pub fn sign(&self, content: &[u8]) -> Result<String, KeyError> {
        let signed = self.0.sign(NAMESPACE, HashAlg::Sha512, content);
        let text = signed.and_then(|signature| signature.to_pem(LineEnding::LF));
        text.map_err(|error| KeyError::Format(error.to_string()))
    }
}

/// The reason why a file of allowed signers is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct SignersError {
    /// Number of the line, from 1.
    pub line: usize,
    /// The problem.
    pub why: &'static str,
}

/// The reason why a signature is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The text is not a signature of OpenSSH.
    #[error("the signature is malformed")]
    Malformed,
    /// The signature is for another purpose.
    #[error("the signature is for the namespace {0:?}, not for {NAMESPACE:?}")]
    Namespace(String),
    /// No line of the allowed signers has the key.
    #[error("no allowed signer has the key {0}")]
    UnknownKey(String),
    /// The key is allowed for other namespaces or at other times only.
    #[error("the key {0} is not allowed for the namespace {NAMESPACE:?} at this time")]
    NotAllowed(String),
    /// The content is not that which was signed, or the key's type is not supported.
    #[error("the signature does not match the content")]
    Mismatch,
}

/// The signers that a file allows.
#[derive(Clone, Debug, Default)]
pub struct AllowedSigners(Vec<Signer>);

#[derive(Clone, Debug)]
struct Signer {
    principals: String,
    /// Patterns of namespaces; every namespace without them.
    namespaces: Option<Vec<String>>,
    valid_after: Option<u64>,
    valid_before: Option<u64>,
    key: PublicKey,
}

impl AllowedSigners {
    /// Parses the text of a file of allowed signers. Lines with certificate authorities, and with keys of types that this release
    /// cannot verify, allow nothing.
    ///
    /// # Errors
    /// [`SignersError`] with the number of the malformed line.
    pub fn parse(text: &str) -> Result<Self, SignersError> {
        let mut signers = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match Signer::parse(line) {
                Ok(signer) => signers.extend(signer),
                Err(why) => return Err(SignersError { line: number + 1, why }),
            }
        }
        Ok(AllowedSigners(signers))
    }

    /// Returns the number of keys that are allowed.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if no key is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Verifies a signature over content at a time, in seconds since 1970; returns the principals of the signer.
    ///
    /// # Errors
    /// [`SignatureError`] if the signature is malformed, of a key that is not allowed, or over other content.
    pub fn verify(&self, content: &[u8], signature: &str, now: u64) -> Result<String, SignatureError> {
        let parsed = Some(signature).filter(|text| text.len() <= MAX_SIGNATURE);
        let parsed = parsed.and_then(|text| SshSig::from_pem(text.trim_end()).ok());
        let signature = parsed.ok_or(SignatureError::Malformed)?;
        if signature.namespace() != NAMESPACE {
            return Err(SignatureError::Namespace(signature.namespace().chars().take(80).collect()));
        }
        let fingerprint = || signature.public_key().fingerprint(HashAlg::Sha256).to_string();
        let mut with_key = self.0.iter().filter(|signer| signer.key.key_data() == signature.public_key());
        let Some(first) = with_key.next() else { return Err(SignatureError::UnknownKey(fingerprint())) };
        let allowed = std::iter::once(first).chain(with_key).find(|signer| signer.allows(now));
        let signer = allowed.ok_or_else(|| SignatureError::NotAllowed(fingerprint()))?;
        let verified = signer.key.verify(NAMESPACE, content, &signature);
        verified.map(|()| signer.principals.clone()).map_err(|_| SignatureError::Mismatch)
    }
}

impl Signer {
    /// Parses a line; `None` if it allows nothing that this release can verify.
    fn parse(line: &str) -> Result<Option<Self>, &'static str> {
        let (principals, rest) = field(line);
        let mut signer = Signer {
            principals: principals.trim_matches('"').to_owned(),
            namespaces: None,
            valid_after: None,
            valid_before: None,
            key: PublicKey::from(ssh_key::public::Ed25519PublicKey([0; 32])),
        };
        if signer.principals.is_empty() {
            return Err("the principals are missing");
        }
        let (mut kind, mut key) = field(rest);
        let mut is_authority = false;
        if !is_key_type(kind) {
            is_authority = signer.read_options(kind)?;
            (kind, key) = field(key);
        }
        if !is_key_type(kind) {
            return Err("this is not PRINCIPALS [OPTIONS] KEYTYPE BASE64");
        }
        let base64 = key.split_whitespace().next().ok_or("the key is missing")?;
        let parsed = PublicKey::from_openssh(&format!("{kind} {base64}"));
        match (parsed, kind) {
            (Ok(key), "ssh-ed25519" | "sk-ssh-ed25519@openssh.com") => {
                Ok((!is_authority).then_some(Signer { key, ..signer }))
            }
            (Err(_), "ssh-ed25519" | "sk-ssh-ed25519@openssh.com") => Err("the key is malformed"),
            (Ok(_) | Err(_), _) => Ok(None),
        }
    }

    /// Reads options; returns true for the key of a certificate authority.
    fn read_options(&mut self, options: &str) -> Result<bool, &'static str> {
        let mut is_authority = false;
        for option in split_unquoted(options, ',') {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = value.trim_matches('"');
            match name.to_ascii_lowercase().as_str() {
                "cert-authority" => is_authority = true,
                "namespaces" => {
                    self.namespaces = Some(value.split(',').map(|name| name.trim().to_owned()).collect());
                }
                "valid-after" => self.valid_after = Some(timestamp(value).ok_or("valid-after is no time")?),
                "valid-before" => {
                    self.valid_before = Some(timestamp(value).ok_or("valid-before is no time")?);
                }
                _ => return Err("an option is not known"),
            }
        }
        Ok(is_authority)
    }

    fn allows(&self, now: u64) -> bool {
        self.namespaces.as_ref().is_none_or(|patterns| is_listed(patterns, NAMESPACE))
            && self.valid_after.is_none_or(|after| now >= after)
            && self.valid_before.is_none_or(|before| now < before)
    }
}

/// Returns true if a pattern matches the text and no negated one (`!PATTERN`) does, as ssh-keygen reads lists of patterns.
fn is_listed(patterns: &[String], text: &str) -> bool {
    let (mut is_listed, mut is_excluded) = (false, false);
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(negated) => is_excluded |= matches(negated.as_bytes(), text.as_bytes()),
            None => is_listed |= matches(pattern.as_bytes(), text.as_bytes()),
        }
    }
    is_listed && !is_excluded
}

/// Matches a pattern of ssh-keygen: `*` is any string, and `?` any character.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read, mut star) = (0, 0, None);
    while let Some(character) = text.get(read) {
        match (pattern.get(at), star) {
            (Some(b'*'), _) => {
                star = Some((at + 1, read));
                at += 1;
            }
            (Some(wanted), _) if *wanted == b'?' || wanted == character => (at, read) = (at + 1, read + 1),
            // The last star takes one character more.
            (_, Some((after, taken))) => {
                star = Some((after, taken + 1));
                (at, read) = (after, taken + 1);
            }
            (_, None) => return false,
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|character| *character == b'*')
}

/// Splits off the first field of a line, which ends at a space outside of quotes.
fn field(line: &str) -> (&str, &str) {
    let first = split_unquoted(line, ' ').next().unwrap_or_default();
    let tab = first.split('\t').next().unwrap_or_default();
    (tab, line[tab.len()..].trim_start())
}

/// Splits text at a separator outside of quotes.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

fn is_key_type(text: &str) -> bool {
    ["ssh-", "sk-ssh-", "ecdsa-sha2-", "sk-ecdsa-sha2-"].iter().any(|prefix| text.starts_with(prefix))
}

/// Parses `YYYYMMDD[HHMM[SS]][Z]`, in UTC: a machine without a clock of its own has no local time either.
fn timestamp(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = digits.split_at_checked(8)?;
    let date = Date::parse(date, format_description!("[year][month][day]")).ok()?;
    let time = match time.len() {
        0 => Time::MIDNIGHT,
        4 => Time::parse(time, format_description!("[hour][minute]")).ok()?,
        6 => Time::parse(time, format_description!("[hour][minute][second]")).ok()?,
        _ => return None,
    };
    u64::try_from(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> SigningKey {
        SigningKey(PrivateKey::from(ssh_key::private::Ed25519Keypair::from_seed(&[7; 32])))
    }

    fn public() -> String {
        key().0.public_key().to_openssh().unwrap()
    }

    fn verify(signers: &str, content: &str, now: u64) -> Result<String, SignatureError> {
        let signature = key().sign(b"content").unwrap();
        AllowedSigners::parse(signers).unwrap().verify(content.as_bytes(), &signature, now)
    }

    #[test]
    fn signature_of_an_allowed_key_names_its_principal() {
        let line = format!("# us\n\nops@example {}\n", public());
        assert_eq!(verify(&line, "content", 0), Ok("ops@example".into()));
        assert_eq!(verify(&line, "contents", 0), Err(SignatureError::Mismatch));
        assert!(matches!(verify("", "content", 0), Err(SignatureError::UnknownKey(_))));
        assert_eq!(key().sign(b"x"), key().sign(b"x"));
    }

    #[test]
    fn options_limit_namespace_and_time() {
        let with = |options: &str| format!("ops {options} {}", public());
        for (options, now, allowed) in [
            ("namespaces=\"git,holdfast-*\"", 0, true),
            ("namespaces=\"git\"", 0, false),
            ("namespaces=\"!holdfast-export,*\"", 0, false),
            ("namespaces=\"*,!holdfast-expor?\"", 0, false),
            ("namespaces=\"!git,hold*-ex?ort\"", 0, true),
            ("namespaces=\"!git\"", 0, false),
            ("namespaces=\"*-e*t?\"", 0, false),
            ("cert-authority", 0, false),
            ("valid-after=\"20200101\"", 1_577_836_800, true),
            ("Valid-After=\"20200101Z\"", 1_577_836_799, false),
            ("valid-before=\"202001010001\",namespaces=\"holdfast-export\"", 1_577_836_859, true),
            ("valid-before=\"20200101000100\"", 1_577_836_860, false),
        ] {
            assert_eq!(verify(&with(options), "content", now).is_ok(), allowed, "{options}");
        }
    }

    #[test]
    fn malformed_lines_are_named() {
        for (text, line) in [("ops", 1), ("\nops nonsense ssh-ed25519 AAAA", 2), ("ops ssh-ed25519 AAAA", 1)]
        {
            assert_eq!(AllowedSigners::parse(text).map(drop).unwrap_err().line, line, "{text}");
        }
        // Keys that cannot be verified are of no use, and no error.
        assert!(AllowedSigners::parse("ops ecdsa-sha2-nistp256 AAAA\n").unwrap().is_empty());
    }

    #[test]
    fn other_keys_and_namespaces_are_refused() {
        let written = key().0.to_openssh(LineEnding::LF).unwrap();
        assert_eq!(SigningKey::parse(&written).unwrap().sign(b"x"), key().sign(b"x"));
        let is_format = |text: &str| matches!(SigningKey::parse(text), Err(KeyError::Format(_)));
        assert!(is_format("") && is_format(&public()));
        let foreign =
            key().0.sign("git", HashAlg::Sha512, b"content").unwrap().to_pem(LineEnding::LF).unwrap();
        let signers = AllowedSigners::parse(&format!("ops {}", public())).unwrap();
        let verified = signers.verify(b"content", &foreign, 0);
        assert_eq!(verified, Err(SignatureError::Namespace("git".into())));
        assert_eq!(signers.verify(b"content", "nonsense", 0), Err(SignatureError::Malformed));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,200}", line in "[a-z*]{0,4}( [a-z]{0,5}=?\"?[a-z0-9,]{0,9}\"?)? (ssh-ed25519)? ?[A-Za-z0-9=]{0,9}") {
            let _ = AllowedSigners::parse(&text);
            let _ = SigningKey::parse(&text);
            if let Ok(signers) = AllowedSigners::parse(&line) {
                let _ = signers.verify(b"", &text, 0);
            }
        }
    }
}
