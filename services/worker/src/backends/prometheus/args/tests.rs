use super::*;
use crate::cli::Program;
use crate::numbers::Chosen;

fn parse(args: &[&str]) -> Result<PrometheusArgs, clap::Error> {
    let program = ["zibrato-prometheus", "--spool", "/tmp/none"];
    Program::<PrometheusArgs>::try_parse(program.iter().chain(args)).map(|program| program.backend)
}

fn context() -> Context {
    let program = "zibrato-prometheus".to_owned();
    Context { program, token_variable: None, chosen: Chosen::default() }
}

fn build(args: &[&str]) -> Result<Arc<dyn Backend>, PrometheusArgsError> {
    parse(args).unwrap().build(&context())
}

fn refused(args: &[&str]) -> String {
    build(args).map(|backend| backend.target()).unwrap_err().to_string()
}

fn write(args: &[&str]) -> RemoteWrite {
    let args = parse(args).unwrap();
    args.remote_write(args.url.as_deref().unwrap(), &context()).unwrap()
}

#[test]
fn one_of_the_two_ways_is_needed() {
    assert_eq!(build(&["--url", "http://127.0.0.1:9090"]).unwrap().target(), URL_EXAMPLE);
    let push = build(&["--url", "https://mimir.example/api/v1/push"]).unwrap().target();
    assert_eq!(push, "https://mimir.example/api/v1/push");
    assert_eq!(build(&["--scrape", "127.0.0.1:9464"]).unwrap().target(), "http://127.0.0.1:9464/metrics");
    assert!(refused(&[]).starts_with("neither --url nor --scrape; give --url http://"));
    assert!(refused(&["--url", "http://h", "--scrape", "[::1]:1"]).starts_with("both --url and --scrape"));
    assert!(refused(&["--url", "ftp://h"]).contains("\"ftp://h\" is not accepted"));
}

#[test]
fn a_page_for_other_machines_is_asked_for_by_name() {
    for open in ["0.0.0.0:9464", "192.0.2.1:1", "[::]:9464"] {
        assert!(refused(&["--scrape", open]).contains("--insecure-scrape"), "{open}");
        assert!(build(&["--scrape", open, "--insecure-scrape"]).is_ok());
    }
    for closed in ["127.0.0.1:9464", "127.9.9.9:1", "[::1]:9464", "[::ffff:127.0.0.1]:1"] {
        assert!(build(&["--scrape", closed]).is_ok(), "{closed}");
    }
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let backend = write(&["--url", "http://127.0.0.1:9090"]);
    assert!(!backend.settings.is_native);
    assert_eq!(backend.settings.bounds, Bounds::parse(BOUNDS_DEFAULT).unwrap());
    assert_eq!(backend.limits.age_max, Duration::from_secs(3_300));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(backend.settings.fixed, Fixed::new(vec![("instance".to_owned(), host.trim().to_owned())]));
    let page = parse(&["--scrape", "127.0.0.1:0"]).unwrap();
    assert_eq!(page.settings(page.instance().unwrap()).unwrap().fixed, Fixed::new(Vec::new()));
}

#[test]
fn flags_reach_their_settings() {
    let backend = write(&[
        "--url",
        "http://127.0.0.1:9090",
        "--instance",
        " w-1 ",
        "--label",
        "job=web",
        "--label",
        "zone= a=b ",
        "--histogram",
        "native",
        "--buckets",
        "1,0.5",
        "--max-age",
        "60",
    ]);
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let labels = vec![label("zone", "a=b"), label("instance", "w-1"), label("job", "web")];
    assert_eq!(backend.settings.fixed, Fixed::new(labels));
    assert!(backend.settings.is_native && backend.settings.bounds.values() == [0.5, 1.0]);
    assert_eq!(backend.limits.age_max, Duration::from_secs(60));
}

#[test]
fn labels_and_instances_are_checked() {
    for bad in ["job", "=x", "9a=x", "a-b=x", "__a=x", "le=1", "source=x", "level=x", "a=", "a= ", "a=\u{7}"]
    {
        let error = parse(&["--url", "http://h", "--label", bad]).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{bad}");
        assert!(error.to_string().contains("--label"), "{error}");
    }
    let url = ["--url", "http://h"];
    assert!(
        refused(&[&url[..], &["--label", "a=1", "--label", "a=2"]].concat())
            .contains("--label a is given twice")
    );
    assert!(refused(&[&url[..], &["--label", "instance=1"]].concat()).contains("--instance"));
    let many: Vec<String> = (0..9).map(|at| format!("--label=l{at}=x")).collect();
    let many: Vec<&str> = url.into_iter().chain(many.iter().map(String::as_str)).collect();
    assert!(refused(&many).contains("9 times --label; accepted are 8"));
    assert!(build(&many[..10]).is_ok());
    for bad in ["", " ", &"x".repeat(256), "a\nb"] {
        assert!(refused(&["--url", "http://h", "--instance", bad]).contains("--instance"), "{bad}");
    }
}

#[test]
fn other_bad_flags_are_usage_errors() {
    for (flag, value) in [
        ("--scrape", "localhost"),
        ("--scrape", "9464"),
        ("--histogram", "both"),
        ("--buckets", "x"),
        ("--max-age", "59"),
    ] {
        let error = parse(&[flag, value]).unwrap_err();
        let text = error.to_string();
        assert!(error.exit_code() == 2 && text.contains(flag) && text.contains(value), "{text}");
    }
    Program::<PrometheusArgs>::command().debug_assert();
}
