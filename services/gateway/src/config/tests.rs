use clap::{CommandFactory, Parser};

use super::*;

fn args(flags: &[&str]) -> Args {
    Args::try_parse_from([&["zibrato-gateway"], flags].concat()).unwrap()
}

fn resolve(flags: &[&str]) -> Result<Config, ConfigError> {
    args(flags).resolve()
}

fn sources(flags: &[&str]) -> Vec<String> {
    resolve(flags).unwrap().devices.into_iter().map(|device| device.source).collect()
}

#[test]
fn a_source_is_given_or_made_of_what_follows() {
    assert_eq!(sources(&["--serial", "/dev/ttyUSB0"]), ["ttyUSB0"]);
    assert_eq!(sources(&["--serial", "motor=/dev/serial/by-id/usb-FTDI_x=1"]), ["motor"]);
    assert_eq!(sources(&["--serial", "/dev/a b/x=y"]), ["x_y"]);
    assert_eq!(
        sources(&["--tcp", "localhost:4000", "--tcp", "[::1]:4000", "--tcp", "b=h:1"]),
        ["localhost:4000", "_::1_:4000", "b"]
    );
    let mixed = ["--stdin", "--pty", "--pty=two", "--serial", "/dev/ttyS1", "--replay", "runs/night.zdev"];
    assert_eq!(sources(&mixed), ["ttyS1", "pty", "two", "stdin", "night"]);
}

#[test]
fn each_refused_setting_names_what_was_given_and_what_to_do() {
    let error = |flags: &[&str]| resolve(flags).unwrap_err().to_string();
    assert_eq!(error(&[]), "no device is given: give --serial, --tcp, --pty, --stdin or --replay");
    let text = error(&["--serial", "/dev/ttyUSB0", "--serial", "/tmp/ttyUSB0"]);
    assert_eq!(
        text,
        "two devices have the source ttyUSB0: each needs one of its own; give NAME= before one of them"
    );
    let text = error(&["--pty", "--stdin", "--record", "f"]);
    assert!(text.starts_with("--record f does not say which device"), "{text}");
    assert!(error(&["--pty", "--record", "x=f"]).starts_with("--record x=FILE: no device"));
    assert!(error(&["--pty", "--record", "f", "--record", "g"]).contains("given twice"));
    assert!(error(&["--pty", "--http", "0.0.0.0:1"]).contains("--insecure-bind"));
    let many: Vec<String> = (0..=DEVICES_MAX).map(|at| format!("--pty=p{at}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(error(&many).starts_with("65 devices are given: accepted are at most 64"));
    resolve(&many[1..]).unwrap();
    let endpoints = ["--endpoint", "tcp://h:1"].repeat(17);
    assert!(error(&[&["--pty"], &endpoints[..]].concat()).starts_with("17 endpoints"));
}

#[test]
fn each_limit_of_a_flag_is_enforced() {
    for flags in [
        ["--baud", "0"],
        ["--baud", "20000001"],
        ["--tcp", "nowhere"],
        ["--tcp", "host:0"],
        ["--tcp", ":1"],
        ["--serial", "name="],
        ["--pty=a b", "--pty"],
        ["--speed", "-1"],
        ["--speed", "NaN"],
        ["--hold", "3601"],
        ["--port", "0"],
    ] {
        assert!(Args::try_parse_from([&["zibrato-gateway"], &flags[..]].concat()).is_err(), "{flags:?}");
    }
    let twice = ["zibrato-gateway", "--stdin", "--stdin"];
    assert!(Args::try_parse_from(twice).is_err());
}

#[test]
fn a_record_belongs_to_the_device_of_its_name_or_to_the_only_one() {
    let records = |flags: &[&str]| -> Vec<bool> {
        resolve(flags).unwrap().devices.iter().map(|device| device.record.is_some()).collect()
    };
    assert_eq!(records(&["--pty", "--record", "f"]), [true]);
    assert_eq!(records(&["--pty=a", "--pty=b", "--record", "b=f"]), [false, true]);
}

#[test]
fn without_flags_the_settings_are_the_documented_defaults() {
    let config = resolve(&["--pty"]).unwrap();
    assert_eq!(config.endpoints, ["tcp://127.0.0.1:5550"]);
    assert_eq!((config.hold, config.http.explicit), (Duration::from_secs(15), false));
    assert_eq!(config.http.addr, Some(HTTP_DEFAULT));
    assert_eq!(config.site, config.host_name);
    let help = Args::command().render_long_help().to_string();
    for text in ["bits a second", "[default: 115200]", "127.0.0.1:5554", "[default: 15]", "seconds", "12.5 %"]
    {
        assert!(help.contains(text), "{text} in {help}");
    }
}
