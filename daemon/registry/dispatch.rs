//! Calls the handler of a request's route.

use http::StatusCode;
use serde_json::json;

use super::Registry;
use crate::wire::{ApiError, Permitted, Response, Route, json as json_response};

impl Registry {
    /// Handles a request. Blocking work of its handler is counted for the holder, the user or the address of the
    /// client.
    ///
    /// # Errors
    /// Returns the [`ApiError`] to respond with.
    pub async fn answer(&self, request: Permitted) -> Result<Response, ApiError> {
        let holder = self.holder(&request);
        holder.run(self.dispatch(request)).await
    }

    async fn dispatch(&self, mut request: Permitted) -> Result<Response, ApiError> {
        let route = request.route.clone();
        if route.changes_content() {
            self.check_writable()?;
        }
        match route {
            Route::Ping => Ok(json_response(StatusCode::OK, &json!({}))),
            Route::Catalog => self.catalog(&request).await,
            Route::Tags(name) => self.tags(&name, &request).await,
            Route::GetManifest(name, reference) => self.get_manifest(&name, &reference, &request).await,
            Route::PutManifest(name, reference) => self.put_manifest(&name, reference, &mut request).await,
            Route::DeleteManifest(name, reference) => self.delete_manifest(&name, reference, &request).await,
            Route::GetBlob(name, digest) => self.get_blob(&name, &digest, &request).await,
            Route::DeleteBlob(name, digest) => self.delete_blob(&name, digest, &request).await,
            Route::StartUpload(name) => self.start_upload(&name, &mut request).await,
            Route::UploadStatus(name, id) => self.upload_status(&name, &id, &request).await,
            Route::PatchUpload(name, id) => self.patch_upload(&name, &id, &mut request).await,
            Route::PutUpload(name, id) => self.put_upload(&name, &id, &mut request).await,
            Route::CancelUpload(name, id) => self.cancel_upload(&name, &id).await,
            Route::Referrers(name, digest) => self.referrers(&name, &digest, &request).await,
        }
    }
}
