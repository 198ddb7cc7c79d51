//! Encrypts records of TLS with the ciphers that the daemon has, so that an emulator can count the instructions.
//!
//! Arguments: the cipher, `chacha20-poly1305` or `aes-128-gcm`, and the number of records of 16 KiB.

use ring::aead::{AES_128_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

const RECORD: usize = 16 << 10;

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [cipher, records] = arguments.as_slice() else {
        return Err("wants a cipher and a number of records".to_owned());
    };
    let cipher: &Algorithm = match cipher.as_str() {
        "chacha20-poly1305" => &CHACHA20_POLY1305,
        "aes-128-gcm" => &AES_128_GCM,
        _ => return Err(format!("there is no cipher {cipher}")),
    };
    let records: u32 = records.parse().map_err(|error| format!("{records}: {error}"))?;
    encrypt(cipher, records).map_err(|_| "the encryption fails".to_owned())
}

fn encrypt(cipher: &'static Algorithm, records: u32) -> Result<(), ring::error::Unspecified> {
    let key = LessSafeKey::new(UnboundKey::new(cipher, &[7; 32][..cipher.key_len()])?);
    let mut record = vec![0x5A; RECORD];
    for number in 0..records {
        let mut nonce = [0; 12];
        nonce[8..].copy_from_slice(&number.to_be_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        // The head of a record of TLS 1.3: application data, its length.
        let head = [23, 3, 3, 0x40, 0x10];
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(head), &mut record)?;
        std::hint::black_box(tag.as_ref());
    }
    Ok(())
}

/// Replaces that of the C library: the emulated cores have the crypto extensions, those of a Raspberry Pi 3 or 4 do not.
///
/// ring asks for nothing but the capabilities of the processor: NEON on 32-bit ARM, where it is bit 12; on 64-bit ARM NEON
/// is always there, and all bits that ring looks at are crypto extensions.
#[cfg(all(target_os = "linux", any(target_arch = "arm", target_arch = "aarch64")))]
#[unsafe(no_mangle)]
pub extern "C" fn getauxval(_kind: std::ffi::c_ulong) -> std::ffi::c_ulong {
    if cfg!(target_arch = "arm") { 1 << 12 } else { 0 }
}
