use super::*;
use crate::cli::Program;

fn parse(args: &[&str]) -> InfluxArgs {
    let all = ["zibrato-influx", "--spool", "/tmp/none"].iter().chain(args);
    Program::<InfluxArgs>::try_parse(all).unwrap().backend
}

fn url(args: &[&str]) -> Result<String, InfluxArgsError> {
    parse(args).write_url().map(|url| url.to_string())
}

fn context() -> Context {
    Context { program: "zibrato-influx".to_owned(), token_variable: None, chosen: Default::default() }
}

#[test]
fn both_ways_have_their_path_and_query() {
    assert_eq!(
        url(&["--database", "zibrato"]).unwrap(),
        "http://127.0.0.1:8086/write?db=zibrato&precision=ms"
    );
    assert_eq!(
        url(&["--database", "a b&c", "--retention-policy", "one week", "--url", "https://x/influx/"])
            .unwrap(),
        "https://x/influx/write?db=a+b%26c&rp=one+week&precision=ms"
    );
    assert_eq!(
        url(&["--org", "o", "--bucket", "b/rp", "--url", "http://x:9999"]).unwrap(),
        "http://x:9999/api/v2/write?org=o&bucket=b%2Frp&precision=ms"
    );
}

#[test]
fn exactly_one_way_is_given_and_whole() {
    let wrong: [&[&str]; 8] = [
        &[],
        &["--database", " "],
        &["--retention-policy", "r"],
        &["--org", "o"],
        &["--bucket", "b"],
        &["--database", "d", "--bucket", "b"],
        &["--database", "d", "--org", "o", "--bucket", "b"],
        &["--org", "o", "--bucket", "b", "--retention-policy", "r"],
    ];
    for args in wrong {
        let error = url(args).unwrap_err();
        assert!(matches!(error, InfluxArgsError::Destination), "{args:?}: {error}");
        assert!(
            error.to_string().contains("--database") && error.to_string().contains("--bucket"),
            "{error}"
        );
    }
    // An empty variable is one that is not set.
    assert!(url(&["--database", "d", "--org", "", "--bucket", "", "--retention-policy", ""]).is_ok());
}

#[test]
fn urls_that_cannot_work_are_refused() {
    for text in ["ftp://x/", "127.0.0.1:8086", "http://", "http://x/#y", "http://u:p@x/"] {
        let error = url(&["--database", "d", "--url", text]).unwrap_err();
        assert!(matches!(error, InfluxArgsError::Access(_)), "{text}: {error}");
    }
    let error = url(&["--database", "d", "--url", "http://x/write?db=e"]).unwrap_err();
    assert!(matches!(error, InfluxArgsError::Query { .. }), "{error}");
}

#[test]
fn credentials_are_basic_or_a_token_and_a_user_is_of_version_1() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "canary-81\n").unwrap();
    let file = file.to_str().unwrap();
    let build = |args: &[&str]| parse(args).build(&context());
    assert!(build(&["--database", "d", "--username", "u", "--token-file", file]).is_ok());
    assert!(build(&["--org", "o", "--bucket", "b", "--token-file", file]).is_ok());
    let args = ["--org", "o", "--bucket", "b", "--username", "u", "--token-file", file];
    assert!(matches!(build(&args).map(|_| ()), Err(InfluxArgsError::Username)));
    assert!(matches!(
        build(&["--database", "d", "--username", "u"]).map(|_| ()),
        Err(InfluxArgsError::Access(UrlArgsError::NoToken))
    ));
    let open = ["--database", "d", "--token-file", file, "--url", "http://192.0.2.1/"];
    let error = build(&open).map(|_| ()).unwrap_err();
    assert!(
        error.to_string().contains("--insecure-http") && !error.to_string().contains("canary"),
        "{error}"
    );
}

#[test]
fn two_databases_do_not_share_a_spool() {
    let target = |database| parse(&["--database", database]).build(&context()).unwrap().target();
    assert_ne!(target("a"), target("b"));
}
