use super::*;
use crate::backends::librato::{AGE_MAX, LibratoArgs, LibratoConfig, URL_DEFAULT};

type Args = Program<LibratoArgs>;

/// What flags ask for.
#[derive(Debug)]
struct Settings {
    worker: Config,
    librato: LibratoConfig,
}

fn parse(args: &[&str]) -> Result<Args, clap::Error> {
    Args::try_parse(["zibrato-librato", "--spool", "/tmp/none"].iter().chain(args))
}

fn resolve(args: &[&str]) -> Result<Settings, ArgsError> {
    let program = parse(args).unwrap();
    let (worker, _) = program.resolve()?;
    Ok(Settings { worker, librato: program.backend.resolve().unwrap() })
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
    assert_eq!(settings.worker.source.endpoints, ["tcp://10.0.0.1:7551"]);
    assert_eq!(settings.worker.source.levels, ["test", "debug", "info"]);
    assert_eq!(settings.worker.lane.flush, Duration::from_secs(30));
    assert!(settings.librato.credentials.is_some());
    assert_eq!(settings.librato.url.as_str(), "https://metrics.example/v1/metrics");
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let settings = resolve(&[]).unwrap();
    assert_eq!(settings.worker.source.endpoints, ["tcp://127.0.0.1:5551"]);
    assert_eq!(
        (settings.worker.source.levels, settings.worker.lane.flush),
        (vec!["info".to_owned()], Duration::from_secs(60))
    );
    assert_eq!(settings.worker.lane.spool_bytes_max, 256 << 20);
    assert_eq!(settings.worker.status, StatusEndpoint { addr: Some(HTTP_DEFAULT), explicit: false });
    assert_eq!(settings.worker.lane.series, SeriesLimits::default());
    assert!(!settings.librato.raw_timers && settings.librato.credentials.is_none());
    assert_eq!(settings.librato.url.as_str(), URL_DEFAULT);
    assert_eq!(settings.librato.age_max, AGE_MAX);
}

#[test]
fn other_flags_reach_their_settings() {
    let endpoints = ["--endpoint", "tcp://a:1", "--endpoint", "ipc:///tmp/b"];
    assert_eq!(resolve(&endpoints).unwrap().worker.source.endpoints, ["tcp://a:1", "ipc:///tmp/b"]);
    assert_eq!(resolve(&["--host", "::1"]).unwrap().worker.source.endpoints, ["tcp://[::1]:5551"]);
    let settings =
        resolve(&["--timers", "raw", "--spool-mib", "1", "--max-age", "60", "--http", "127.0.0.1:0"])
            .unwrap();
    assert!(settings.librato.raw_timers && settings.worker.status.explicit);
    assert_eq!((settings.worker.lane.spool_bytes_max, settings.librato.age_max.as_secs()), (1 << 20, 60));
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
fn a_host_that_is_none_is_refused() {
    assert!(matches!(resolve(&["--host", "a b"]), Err(ArgsError::Host { .. })));
}

#[test]
fn percentiles_are_checked_sorted_and_each_once() {
    let percentiles = |text: &str| parse(&["--percentiles", text]).map(|args| args.lane.percentiles.0);
    assert_eq!(percentiles("99.9, 50,99.9,").unwrap(), [50.0, 99.9]);
    assert!(percentiles("").unwrap().is_empty(), "none are wanted");
    for bad in ["0", "100", "NaN", "p99", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"] {
        assert!(percentiles(bad).is_err(), "{bad}");
    }
}

#[test]
fn each_flag_with_a_value_has_its_variable() {
    let command = Args::command();
    let variable = |long: &str| {
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(long)).unwrap();
        arg.get_env().map(|name| name.to_str().unwrap().to_owned())
    };
    let names =
        ["flush", "spool-mib", "apitoken", "apitoken-file", "max-age", "no-http", "endpoint"].map(variable);
    let expected = ["FLUSH", "SPOOL_MIB", "TOKEN", "TOKEN_FILE", "MAX_AGE"]
        .map(|name| format!("ZIBRATO_LIBRATO_{name}"));
    assert_eq!(names.iter().flatten().cloned().collect::<Vec<_>>(), expected);
    command.debug_assert();
}
