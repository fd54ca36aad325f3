use super::*;
use crate::cli::Program;

fn parse(args: &[&str]) -> Result<LibratoArgs, clap::Error> {
    let all = ["zibrato-librato", "--spool", "/tmp/none"].iter().chain(args);
    Program::<LibratoArgs>::try_parse(all).map(|program| program.backend)
}

fn resolve(args: &[&str]) -> Result<LibratoConfig, LibratoArgsError> {
    parse(args).unwrap().resolve()
}

#[test]
fn urls_that_cannot_work_are_refused() {
    for url in ["ftp://x/", "127.0.0.1:5580", "http://", "not a url", "http://x/#y"] {
        let error = resolve(&["--url", url]).unwrap_err().to_string();
        assert!(error.contains("--url") && error.contains("http://HOST"), "{error}");
    }
}

#[test]
fn credentials_go_to_another_machine_only_encrypted_or_when_told_so() {
    let with = |url: &'static str, more: &[&'static str]| {
        resolve(&[&["--username", "u", "--apitoken", "canary-76", "--url", url], more].concat())
    };
    assert!(matches!(
        with("http://192.0.2.1/", &[]),
        Err(LibratoArgsError::Url(UrlError::InsecureHttp { .. }))
    ));
    assert!(with("http://192.0.2.1/", &["--insecure-http"]).is_ok());
    for url in ["https://192.0.2.1/", "http://localhost/", "http://127.9.9.9/", "http://[::1]:80/"] {
        assert!(with(url, &[]).is_ok(), "{url}");
    }
    // Without credentials there is nothing to protect.
    assert!(resolve(&["--url", "http://192.0.2.1/"]).is_ok());
}

#[test]
fn half_of_the_credentials_is_a_mistake() {
    assert!(matches!(resolve(&["--username", "u"]), Err(LibratoArgsError::NoToken)));
    assert!(matches!(resolve(&["--apitoken", "t"]), Err(LibratoArgsError::NoUsername)));
    assert!(matches!(
        resolve(&["--username", "a:b", "--apitoken", "t"]),
        Err(LibratoArgsError::Credentials(_))
    ));
    assert!(resolve(&["--username", "", "--apitoken", " "]).unwrap().credentials.is_none());
    assert!(matches!(
        resolve(&["--username", "u", "--apitoken-file", "/none"]),
        Err(LibratoArgsError::Token(_))
    ));
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
