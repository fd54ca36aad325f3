use clap::CommandFactory;

use super::*;

fn parse(args: &[&str]) -> Result<Args, clap::Error> {
    Args::try_parse_from([BINARY, "--spool", "/tmp/none"].iter().chain(args))
}

fn resolve(args: &[&str]) -> Result<Settings, ArgsError> {
    parse(args).unwrap().resolve()
}

#[test]
fn the_flags_of_the_original_are_understood_and_resolved() {
    let settings = resolve(&[
        "--host",
        "10.0.0.1",
        "--port",
        "7551",
        "--levels",
        "test, debug,info ,debug",
        "--flush",
        "30",
        "--username",
        "me@x.org",
        "--apitoken",
        "canary-75",
        "--url",
        "https://metrics.example/v1/metrics",
    ])
    .unwrap();
    assert_eq!(settings.worker.endpoints, ["tcp://10.0.0.1:7551"]);
    assert_eq!(settings.worker.levels, ["test", "debug", "info"]);
    assert_eq!(settings.worker.flush, Duration::from_secs(30));
    assert_eq!(settings.librato.credentials.as_ref().unwrap().username, "me@x.org");
    assert_eq!(settings.librato.url.as_str(), "https://metrics.example/v1/metrics");
}

#[test]
fn the_defaults_are_the_documented_ones() {
    Args::command().debug_assert();
    let settings = resolve(&[]).unwrap();
    assert_eq!(settings.worker.endpoints, ["tcp://127.0.0.1:5551"]);
    assert_eq!(
        (settings.worker.levels, settings.worker.flush),
        (vec!["info".to_owned()], Duration::from_secs(60))
    );
    assert_eq!(settings.worker.spool_bytes_max, 256 << 20);
    assert_eq!(settings.worker.status, StatusEndpoint { addr: Some(HTTP_DEFAULT), explicit: false });
    assert!(!settings.worker.timers_raw && settings.librato.credentials.is_none());
    assert_eq!(settings.librato.url.as_str(), URL_DEFAULT);
    assert_eq!(settings.librato.age_max, AGE_MAX);
}

#[test]
fn other_flags_reach_their_settings() {
    let endpoints = ["--endpoint", "tcp://a:1", "--endpoint", "ipc:///tmp/b"];
    assert_eq!(resolve(&endpoints).unwrap().worker.endpoints, ["tcp://a:1", "ipc:///tmp/b"]);
    assert_eq!(resolve(&["--host", "::1"]).unwrap().worker.endpoints, ["tcp://[::1]:5551"]);
    let settings =
        resolve(&["--timers", "raw", "--spool-mib", "1", "--max-age", "60", "--http", "127.0.0.1:0"])
            .unwrap();
    assert!(settings.worker.timers_raw && settings.worker.status.explicit);
    assert_eq!((settings.worker.spool_bytes_max, settings.librato.age_max.as_secs()), (1 << 20, 60));
    assert_eq!(resolve(&["--no-http"]).unwrap().worker.status.addr, None);
    let url = resolve(&["--url", "http://localhost:9"]).unwrap().librato.url;
    assert_eq!(url.as_str(), "http://localhost:9/v1/metrics");
}

#[test]
fn a_bad_flag_is_a_usage_error_that_names_flag_and_value() {
    for (flag, value) in [
        ("--port", "0"),
        ("--port", "65536"),
        ("--flush", "0"),
        ("--flush", "3601"),
        ("--levels", " , "),
        ("--levels", "a|b"),
        ("--levels", "a-level-that-is-longer-than-32-bytes"),
        ("--endpoint", "127.0.0.1:5551"),
        ("--endpoint", "tcp://127.0.0.1"),
        ("--endpoint", "tcp://127.0.0.1:x"),
        ("--timers", "both"),
        ("--spool-mib", "0"),
        ("--max-age", "59"),
        ("--http", "localhost"),
    ] {
        let error = parse(&[flag, value]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains(flag) && text.contains(value.trim()), "{text}");
    }
    assert!(parse(&["--endpoint", "tcp://a:1", "--port", "1"]).is_err());
    assert!(parse(&["--http", "127.0.0.1:1", "--no-http"]).is_err());
}

#[test]
fn urls_that_cannot_work_are_refused() {
    for url in ["ftp://x/", "127.0.0.1:5580", "http://", "not a url", "http://x/#y"] {
        let error = resolve(&["--url", url]).unwrap_err().to_string();
        assert!(error.contains("--url") && error.contains("http://HOST"), "{error}");
    }
    assert!(matches!(resolve(&["--host", "a b"]), Err(ArgsError::Host { .. })));
}

#[test]
fn credentials_go_to_another_machine_only_encrypted_or_when_told_so() {
    let with = |url: &'static str, more: &[&'static str]| {
        resolve(&[&["--username", "u", "--apitoken", "canary-76", "--url", url], more].concat())
    };
    assert!(matches!(with("http://192.0.2.1/", &[]), Err(ArgsError::InsecureHttp { .. })));
    assert!(with("http://192.0.2.1/", &["--insecure-http"]).is_ok());
    for url in ["https://192.0.2.1/", "http://localhost/", "http://127.9.9.9/", "http://[::1]:80/"] {
        assert!(with(url, &[]).is_ok(), "{url}");
    }
    // Without credentials there is nothing to protect.
    assert!(resolve(&["--url", "http://192.0.2.1/"]).is_ok());
}

#[test]
fn half_of_the_credentials_is_a_mistake() {
    assert!(matches!(resolve(&["--username", "u"]), Err(ArgsError::NoToken)));
    assert!(matches!(resolve(&["--apitoken", "t"]), Err(ArgsError::NoUsername)));
    assert!(matches!(resolve(&["--username", "a:b", "--apitoken", "t"]), Err(ArgsError::Username { .. })));
    assert!(resolve(&["--username", "", "--apitoken", " "]).unwrap().librato.credentials.is_none());
    assert!(matches!(resolve(&["--username", "u", "--apitoken-file", "/none"]), Err(ArgsError::Token(_))));
    assert!(parse(&["--apitoken", "t", "--apitoken-file", "/none"]).is_err());
}

#[test]
fn the_token_is_in_no_debug_output_and_no_error() {
    let args = parse(&["--username", "u", "--apitoken", "canary-77"]).unwrap();
    assert!(!format!("{args:?} {:?}", args.resolve().unwrap()).contains("canary"));
    let errors = [
        resolve(&["--apitoken", "canary-78"]).unwrap_err(),
        resolve(&["--username", "u", "--apitoken", "canary-78\u{1}"]).unwrap_err(),
        resolve(&["--url", "https://u:canary-78@x/"]).unwrap_err(),
        resolve(&["--username", "u", "--apitoken", "canary-78", "--url", "http://192.0.2.1/"]).unwrap_err(),
    ];
    for error in errors {
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
    let both = parse(&["--apitoken", "canary-78", "--apitoken-file", "x"]).unwrap_err();
    assert!(!both.to_string().contains("canary"), "{both}");
}
