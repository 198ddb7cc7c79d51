//! The framing of a request body: RFC 9112 section 6.

use http::StatusCode;
use http::header::TRANSFER_ENCODING;
use http::request::Parts;

use super::error::ApiError;

/// Refuses transfer codings other than a single `chunked`. Hyper decodes only that and leaves others, such as `gzip` before
/// it, in the body, which would be stored as it is.
///
/// # Errors
/// [`ApiError::Http`].
pub fn check_framing(parts: &Parts) -> Result<(), ApiError> {
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(()),
        (Some(_), _) => Err(ApiError::Http(
            StatusCode::NOT_IMPLEMENTED,
            "the only transfer coding of a request that is supported is chunked",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chunked_is_supported() {
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
