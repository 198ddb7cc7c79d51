//! Fuzzes `X-Forwarded-*` and `Forwarded` of a trusted proxy.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use holdfast::wire::{Addresses, is_forwarded};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 6] =
    ["forwarded", "host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"];

fuzz_target!(|lines: Vec<(u8, Vec<u8>)>| {
    let mut headers = HeaderMap::new();
    for (name, value) in &lines {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(NAMES[usize::from(*name) % NAMES.len()], value);
        }
    }
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let addresses = Addresses { external_url: None, trusted_proxies: vec![peer.into()] };
    let _ = (addresses.client_address(&headers, peer), is_forwarded(&headers));
    let host = addresses.target_origin(&headers, peer, false).host;
    // Pages show the host, and it is compared with Origin: a forwarded one has to match the grammar of a host.
    assert!(host.is_none_or(|host| headers.contains_key("host") || !host.contains(['<', '"', '/', ' '])));
});
