use super::target::*;
use super::tls::Trust;

#[test]
fn a_base_url_is_taken_apart() {
    let table = [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", ""),
        ("127.0.0.1:8000/", "127.0.0.1:8000", ""),
        ("http://proxy/pd/", "proxy", "/pd"),
        ("http://proxy:443", "proxy:443", ""),
        ("https://proxy:443", "proxy", ""),
        ("https://proxy:80//", "proxy:80", ""),
        ("http://[::1]:9", "[::1]:9", ""),
        ("https://[::1]", "[::1]", ""),
        ("https://10.0.0.5:8443/a/b/", "10.0.0.5:8443", "/a/b"),
    ];
    for (url, authority, path) in table {
        let target = Target::parse(url).unwrap();
        assert_eq!((target.authority().as_str(), target.base_path()), (authority, path), "{url}");
    }
}

#[test]
fn a_url_that_cannot_be_used_is_refused_without_its_secret() {
    for url in ["http://", "ftp://x", "http://x:99999", "http://x/?a", "https://-x"] {
        assert!(Target::parse(url).is_err(), "{url}");
    }
    for url in [
        "http://u:hunter2@x",
        "http://u:/hunter2@x",
        "http://u:a/hunter2@x:1",
        "http://u:a?hunter2@x",
        "http://u:a#hunter2@x",
        "http://u:a@hunter2@x",
        "u:a/hunter2@x",
    ] {
        let error = Target::parse(url).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_pasted_url_reaches_the_endpoint_and_the_models() {
    let (completions, chat) = ("/v1/completions", "/v1/chat/completions");
    for (url, endpoint, base, models) in [
        ("http://x", completions, "http://x", "http://x/v1/models"),
        ("http://x/", completions, "http://x", "http://x/v1/models"),
        ("http://x/v1", completions, "http://x", "http://x/v1/models"),
        ("http://x/v1//", chat, "http://x", "http://x/v1/models"),
        ("https://x/v1/completions", completions, "https://x", "https://x/v1/models"),
        ("https://x/v1/chat/completions/", chat, "https://x", "https://x/v1/models"),
        ("http://x/pd", completions, "http://x/pd", "http://x/pd/v1/models"),
        ("http://x/pd/v1", completions, "http://x/pd", "http://x/pd/v1/models"),
        ("http://x/pd/v1/completions", completions, "http://x/pd", "http://x/pd/v1/models"),
        ("http://x/v1", "/completions", "http://x/v1", "http://x/v1/models"),
        ("http://x/v11", completions, "http://x/v11", "http://x/v11/v1/models"),
        ("http://x/v1/generate", "/v1/generate", "http://x", "http://x/v1/models"),
    ] {
        let target = Target::parse(url).unwrap().for_endpoint(endpoint).unwrap();
        assert_eq!((target.base_url().as_str(), target.url("/v1/models").as_str()), (base, models), "{url}");
    }
    for (url, endpoint) in [("http://x/v1/completions", chat), ("http://x/v1/chat/completions", completions)]
    {
        assert!(Target::parse(url).unwrap().for_endpoint(endpoint).is_err(), "{url}");
    }
}

#[test]
fn https_believes_nobody_before_it_is_told_to() {
    assert!(Target::parse("http://x").unwrap().tls().is_none());
    let target = Target::parse("https://x").unwrap();
    assert!(target.tls().unwrap().verified());
    assert!(!target.trusting(&Trust::Anyone).unwrap().tls().unwrap().verified());
}

#[test]
fn a_header_cannot_break_the_request_apart() {
    let target = || Target::parse("http://x").unwrap();
    assert!(target().with_header("x-a", "b\r\nx-c: d").is_err());
    assert!(target().with_header("x-a\r\n", "b").is_err());
    assert!(target().with_header("", "b").is_err());
    assert!(target().with_api_key(Secret::new("a\nb"), "a file").is_err());
    assert!(target().with_header("x-a", "b c").is_ok());
}

#[test]
fn a_secret_does_not_print_itself() {
    assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
}
