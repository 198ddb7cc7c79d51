//! Fuzzes method, path and query of a request.
#![no_main]

use holdfast::wire::{Query, Route};
use http::Method;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &str)| {
    let (method, target) = input;
    let methods = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let method = &methods[usize::from(method) % methods.len()];
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let _ = Route::parse(method, path);
    let _ = Route::parse(method, &format!("/v2/{path}"));
    let query = Query::parse(Some(query));
    let _ = (query.digest("digest"), query.get("n"), query.get("last"));
});
