//! The kinds of content that people attach to an image: signatures, SBOMs, provenance.

/// The kind of an attachment of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attachment {
    /// A signature.
    Signature(Signer),
    /// A list of the packages in the image.
    Sbom,
    /// A statement on how the image was built.
    Provenance,
    /// A statement of another kind.
    Attestation,
}

/// The tool that made a signature, and that verifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signer {
    /// cosign, of Sigstore.
    Cosign,
    /// notation, of the Notary Project.
    Notation,
    /// A tool that the registry does not know.
    Other,
}

impl Attachment {
    /// Returns the kind of an artifact type, or of the media type of a layer.
    pub fn of_type(artifact_type: &str) -> Option<Self> {
        let text = artifact_type.to_ascii_lowercase();
        let has = |part: &str| text.contains(part);
        match () {
            () if has("spdx") || has("cyclonedx") || has("sbom") || has("syft") => Some(Attachment::Sbom),
            () if has("slsa") || has("provenance") => Some(Attachment::Provenance),
            () if has("in-toto") || has("dsse") || has("attestation") => Some(Attachment::Attestation),
            () if has("cosign") || has("sigstore") || has("simplesigning") => {
                Some(Attachment::Signature(Signer::Cosign))
            }
            () if has("notary") => Some(Attachment::Signature(Signer::Notation)),
            () if has("signature") => Some(Attachment::Signature(Signer::Other)),
            () => None,
        }
    }

    /// Returns the kind of the predicate of an in-toto statement. Cosign signs by a statement with a predicate of its own.
    pub fn of_predicate(predicate_type: &str) -> Self {
        if predicate_type.contains("sigstore.dev/cosign/sign/") {
            return Attachment::Signature(Signer::Cosign);
        }
        match Attachment::of_type(predicate_type) {
            Some(kind @ (Attachment::Sbom | Attachment::Provenance)) => kind,
            Some(Attachment::Signature(_) | Attachment::Attestation) | None => Attachment::Attestation,
        }
    }

    /// Returns the kind of an attachment tag.
    pub fn of_tag(tag: &str) -> Option<Self> {
        match tag.rsplit_once('.')?.1 {
            "sig" => Some(Attachment::Signature(Signer::Cosign)),
            "sbom" => Some(Attachment::Sbom),
            "att" => Some(Attachment::Attestation),
            _ => None,
        }
    }

    /// Returns true for a signature of any tool.
    pub fn is_signature(self) -> bool {
        matches!(self, Attachment::Signature(_))
    }

    /// Returns the word for the kind on a page.
    pub fn word(self) -> &'static str {
        match self {
            Attachment::Signature(_) => "signed",
            Attachment::Sbom => "SBOM",
            Attachment::Provenance => "provenance",
            Attachment::Attestation => "attestation",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_predicates_and_tags_have_a_kind() {
        use Attachment::{Attestation, Provenance, Sbom, Signature};
        let cosign = Signature(Signer::Cosign);
        for (text, kind) in [
            ("application/spdx+json", Some(Sbom)),
            ("application/vnd.cyclonedx+json", Some(Sbom)),
            ("application/vnd.dev.cosign.artifact.sig.v1+json", Some(cosign)),
            ("application/vnd.dev.cosign.simplesigning.v1+json", Some(cosign)),
            ("application/vnd.cncf.notary.signature", Some(Signature(Signer::Notation))),
            ("application/vnd.cncf.notary.v2.signature", Some(Signature(Signer::Notation))),
            ("application/pgp-signature", Some(Signature(Signer::Other))),
            ("application/vnd.dev.sigstore.bundle.v0.3+json", Some(cosign)),
            ("application/vnd.in-toto+json", Some(Attestation)),
            ("application/vnd.cncf.helm.config.v1+json", None),
        ] {
            assert_eq!(Attachment::of_type(text), kind, "{text}");
        }
        assert_eq!(Attachment::of_predicate("https://slsa.dev/provenance/v1"), Provenance);
        assert_eq!(Attachment::of_predicate("https://spdx.dev/Document"), Sbom);
        assert_eq!(Attachment::of_predicate("https://example.org/signature"), Attestation);
        assert_eq!(Attachment::of_predicate("https://sigstore.dev/cosign/sign/v1"), cosign);
        assert_eq!(Attachment::of_predicate("https://cosign.sigstore.dev/attestation/v1"), Attestation);
        assert_eq!(Attachment::of_tag("sha256-00.sig"), Some(cosign));
        assert_eq!((Attachment::of_tag("sha256-00"), Attachment::of_tag("1.0")), (None, None));
    }
}
