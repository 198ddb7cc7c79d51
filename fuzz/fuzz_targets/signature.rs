//! Fuzzes SSH signatures and files of allowed signers: no text panics, and nothing is verified. A NUL separates the two.
#![no_main]

use holdfast::transfer::signature::{AllowedSigners, SigningKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let Some((signers, signature)) = input.split_once('\0') else { return };
    let _ = SigningKey::parse(signature);
    if let Ok(signers) = AllowedSigners::parse(signers) {
        let armored = format!("-----BEGIN SSH SIGNATURE-----\n{signature}\n-----END SSH SIGNATURE-----\n");
        assert!(signers.verify(b"content", signature, 0).is_err());
        assert!(signers.verify(b"content", &armored, 0).is_err());
    }
});
