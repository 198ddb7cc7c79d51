//! Tests of the policies against CSRF and DNS rebinding.

use std::collections::BTreeMap;

use http::Request;

use super::*;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn is_rebinding_safe_host(host: &str) -> bool {
    let headers = HeaderMap::from_iter([(http::header::HOST, host.parse().unwrap())]);
    RebindingPolicy::new(&Addresses::default()).is_rebinding_safe_host(&headers, PEER)
}

fn is_own(addresses: &Addresses, url: &str, https: bool, host: Option<&str>) -> bool {
    let target = TargetOrigin { https, host: host.map(str::to_owned) };
    is_own_page(url, &target, addresses.external_url.as_deref())
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = pairs
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
    pairs.collect()
}

fn cors(origin: &str) -> Cors {
    let origins = vec![origin.to_owned()];
    Cors::new(&BTreeMap::from([("Access-Control-Allow-Origin".to_owned(), origins)]))
}

#[test]
fn without_a_host_only_this_machine_is_rebinding_safe() {
    let (none, addresses) = (HeaderMap::new(), Addresses::default());
    let policy = RebindingPolicy::new(&addresses);
    assert!(policy.is_rebinding_safe_host(&none, PEER));
    assert!(!policy.is_rebinding_safe_host(&none, "192.168.1.7".parse().unwrap()));
}

#[test]
fn a_malformed_forwarded_host_is_not_rebinding_safe() {
    let addresses = Addresses { external_url: None, trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()] };
    let policy = RebindingPolicy::new(&addresses);
    let mut headers = HeaderMap::new();
    headers.insert("host", "localhost".parse().unwrap());
    headers.insert("x-forwarded-proto", "https".parse().unwrap());
    for host in ["evil.example", "[::1]evil.example", "a@localhost", ""] {
        headers.insert("x-forwarded-host", host.parse().unwrap());
        assert!(!policy.is_rebinding_safe_host(&headers, PEER), "{host}");
    }
    headers.insert("x-forwarded-host", "pi.lan".parse().unwrap());
    assert!(policy.is_rebinding_safe_host(&headers, PEER));
}

#[test]
fn names_of_the_public_dns_are_not_rebinding_safe() {
    for host in [
        "127.0.0.1:5000",
        "192.168.1.7",
        "[::1]:5000",
        "[fe80::1]",
        "localhost",
        "LOCALHOST:5000",
        "a.localhost",
        "pi",
        "pi:5000",
        "pi.local.",
        "hub.lan:5000",
        "host.docker.internal",
        "pi.home.arpa",
        "x.test",
    ] {
        assert!(is_rebinding_safe_host(host), "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:5000",
        "1.2.3.4.evil.example",
        "localhost.evil.example.",
        "x.lan.de",
        // Malformed hosts.
        "",
        ":5000",
        "[::1]evil.example",
        "[::1",
        "localhost:80:evil.example",
        "evil.example:.lan",
        "localhost/evil.example",
        "evil@localhost",
        "local host",
        "a..lan",
    ] {
        assert!(!is_rebinding_safe_host(host), "{host}");
    }
}

#[test]
fn a_page_is_own_if_scheme_host_and_port_match() {
    let addresses =
        Addresses { external_url: Some("https://hub.lan/registry/".into()), ..Addresses::default() };
    let own = |url: &str, host: &str| is_own(&addresses, url, false, Some(host));
    for (url, host) in [
        ("http://registry", "registry"),
        ("http://registry:5000/push?x", "Registry:5000"),
        ("https://registry", "registry:443"),
        ("https://registry:5000", "registry:5000"),
        ("http://[fd00::1]:5000", "[fd00::1]:5000"),
        ("https://hub.lan", "127.0.0.1:5000"),
        ("https://HUB.lan:443/registry/users", "127.0.0.1:5000"),
    ] {
        assert!(own(url, host), "{url} {host}");
    }
    for url in [
        "null",
        "",
        "http://",
        "http://:80",
        "http://evil.example",
        "http://registry:81",
        "http://registry.evil.example",
        "http://hub.lan",
        "http://hub.lan:443",
        "ftp://registry",
        "chrome-extension://registry",
        "capacitor://registry",
        "http://evil@registry",
        "registry",
    ] {
        assert!(!own(url, "registry") && !own(url, ""), "{url}");
    }
    assert!(!is_own(&addresses, "http://registry", false, None));
}

#[test]
fn a_page_over_plain_http_is_not_own_if_the_registry_is_called_over_tls() {
    let addresses = Addresses::default();
    for (url, host) in [("https://reg.lan", "reg.lan"), ("https://reg.lan:5000", "reg.lan:5000")] {
        assert!(is_own(&addresses, url, true, Some(host)), "{url}");
    }
    for (url, host) in [
        ("http://reg.lan", "reg.lan"),
        ("http://reg.lan", "reg.lan:80"),
        ("http://reg.lan:443", "reg.lan"),
        ("http://reg.lan:5000", "reg.lan:5000"),
        ("https://reg.lan:5000", "reg.lan"),
    ] {
        assert!(!is_own(&addresses, url, true, Some(host)), "{url}");
    }
}

#[test]
fn sec_fetch_site_states_the_relation_of_a_page() {
    let site = |values: &[&'static str]| {
        let pairs: Vec<_> = values.iter().map(|value| ("sec-fetch-site", *value)).collect();
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, http::HeaderValue::from_static(value));
        }
        fetch_site(&map)
    };
    for other in ["cross-site", "same-site", "", "same-origin, cross-site"] {
        assert_eq!(site(&[other]), FetchSite::Other, "{other}");
    }
    assert_eq!(site(&["same-origin"]), FetchSite::Same);
    for unknown in [&["none"][..], &[], &["same-origin", "same-origin"]] {
        assert_eq!(site(unknown), FetchSite::Unknown, "{unknown:?}");
    }
    assert_eq!(site(&["cross-site", "same-origin"]), FetchSite::Other);
}

#[test]
fn an_allowed_origin_may_send_credentials_only_if_it_is_listed() {
    let (listed, other) = (HeaderValue::from_static("http://ui.lan"), HeaderValue::from_static("http://x"));
    assert!(cors_allows(&cors("*"), &other, false) && !cors_allows(&cors("*"), &other, true));
    let one = cors("http://ui.lan");
    assert!(cors_allows(&one, &listed, true) && !cors_allows(&one, &other, false));
    let origins = vec!["*".to_owned(), "http://ui.lan".to_owned()];
    let both = Cors::new(&BTreeMap::from([("Access-Control-Allow-Origin".to_owned(), origins)]));
    assert!(cors_allows(&both, &listed, true) && !cors_allows(&both, &other, true));
}

#[test]
fn the_api_accepts_programs_own_pages_and_listed_origins() {
    let (addresses, cors) = (Addresses::default(), cors("http://ui.lan"));
    let check = |method: &str, pairs: &[(&'static str, &'static str)]| {
        let mut request = Request::builder().method(method).body(()).unwrap().into_parts().0;
        request.headers = headers(&[&[("host", "reg.lan")], pairs].concat());
        CsrfPolicy::new(&addresses).check_api(&request, PEER, false, &cors).is_ok()
    };
    for accepted in [
        &[][..],
        &[("origin", "http://reg.lan")],
        &[("origin", "http://ui.lan")],
        &[("origin", "http://ui.lan"), ("sec-fetch-site", "cross-site")],
        &[("origin", "http://x"), ("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
    ] {
        assert!(check("POST", accepted), "{accepted:?}");
    }
    for refused in [
        &[("origin", "http://x")][..],
        &[("origin", "null")],
        &[("origin", "http://reg.lan"), ("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
    ] {
        assert!(!check("POST", refused), "{refused:?}");
        for safe in ["GET", "HEAD", "OPTIONS"] {
            assert!(check(safe, refused), "{safe} {refused:?}");
        }
    }
}

#[test]
fn a_form_has_to_show_that_it_comes_from_an_own_page() {
    let addresses = Addresses::default();
    let check = |pairs: &[(&'static str, &'static str)]| {
        let headers = headers(&[&[("host", "reg.lan")], pairs].concat());
        CsrfPolicy::new(&addresses).check_form(&headers, PEER, false).is_ok()
    };
    for accepted in [
        &[("origin", "http://reg.lan")][..],
        &[("referer", "http://reg.lan/users")],
        &[("origin", "http://x"), ("sec-fetch-site", "same-origin")],
    ] {
        assert!(check(accepted), "{accepted:?}");
    }
    for refused in [
        &[][..],
        &[("origin", "http://x")],
        &[("origin", "null"), ("referer", "http://reg.lan/users")],
        &[("referer", "http://x/reg.lan")],
        &[("origin", "http://reg.lan"), ("sec-fetch-site", "same-site")],
    ] {
        assert!(!check(refused), "{refused:?}");
    }
}

#[test]
fn a_request_with_an_origin_is_sent_by_a_page() {
    assert!(is_sent_by_page(&headers(&[("origin", "http://reg.lan")])));
    assert!(is_sent_by_page(&headers(&[("sec-fetch-site", "cross-site")])));
    assert!(!is_sent_by_page(&headers(&[("sec-fetch-site", "none")])) && !is_sent_by_page(&HeaderMap::new()));
}
