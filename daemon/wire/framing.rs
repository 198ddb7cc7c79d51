//! The framing of a request body (RFC 9112 section 6): a body that hyper would not decode fully is refused with 501.

use http::header::TRANSFER_ENCODING;
use http::request::Parts;

use super::error::ApiError;
use crate::oci::ProblemKind;

/// Refuses transfer codings other than a single `chunked`. hyper decodes only that one and leaves others, such as a
/// `gzip` before it, in the body, so that the encoded bytes would be stored.
///
/// # Errors
/// Returns [`ApiError::http`] with status 501.
pub fn check_framing(parts: &Parts) -> Result<(), ApiError> {
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(()),
        (Some(_), _) => Err(ApiError::http(
            ProblemKind::NotImplemented,
            "this transfer coding is not supported; send the body as chunked, or with Content-Length",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfer_codings_other_than_chunked_are_refused() {
        let check = |codings: &[&str]| {
            let mut request = http::Request::builder();
            for coding in codings {
                request = request.header(TRANSFER_ENCODING, *coding);
            }
            check_framing(&request.body(()).unwrap().into_parts().0).is_ok()
        };
        assert!(check(&[]) && check(&["chunked"]) && check(&["Chunked "]));
        for other in [&["gzip, chunked"][..], &["gzip", "chunked"], &["chunked", "chunked"], &["gzip"], &[""]]
        {
            assert!(!check(other), "{other:?}");
        }
    }
}
