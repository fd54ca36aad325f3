//! Credentials: each way to give them, new ones while a worker runs, and that nobody else ever gets or sees them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails a test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use zibrato_e2e::{
    Broker, Delivery, Ended, Format, Process, Worker, command, directory, each, field, get, until,
};

/// What the worker says when its credentials are refused.
const REFUSED: &str = "the backend refuses credentials or address; batches are kept";

/// A backend over HTTP.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    flags: &'static [&'static str],
    /// How a file with a token is given, and what stands before the token in `Authorization`. Librato knows no token
    /// without a user.
    file: &'static [&'static str],
    scheme: &'static str,
    format: Format,
    totals: bool,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "librato",
        flags: &[],
        file: &["--username", "me", "--apitoken-file", "FILE"],
        scheme: "Basic",
        format: Format::Librato,
        totals: false,
    },
    Kind {
        name: "otlp",
        flags: &[],
        file: &["--token-file", "FILE"],
        scheme: "Bearer",
        format: Format::Otlp,
        totals: true,
    },
    Kind {
        name: "influx",
        flags: &["--database", "shop"],
        file: &["--token-file", "FILE"],
        scheme: "Token",
        format: Format::Influx,
        totals: false,
    },
    Kind {
        name: "prometheus",
        flags: &["--instance", "w1"],
        file: &["--token-file", "FILE"],
        scheme: "Bearer",
        format: Format::RemoteWrite,
        totals: true,
    },
];

impl Kind {
    /// The header of a token that was given by [`Kind::file`].
    fn header(&self, token: &str) -> String {
        match self.scheme {
            "Basic" => basic(token),
            scheme => format!("authorization: {scheme} {token}"),
        }
    }

    /// What `hits` comes to in these requests.
    fn hits<'a>(&self, requests: impl IntoIterator<Item = &'a Request>) -> f64 {
        let points = requests.into_iter().flat_map(|request| self.format.points(&request.body));
        let values: Vec<f64> = points.filter(|point| point.name == "hits").map(|point| point.value).collect();
        if self.totals { values.last().copied().unwrap_or_default() } else { values.iter().sum() }
    }
}

fn basic(token: &str) -> String {
    format!("authorization: Basic {}", STANDARD.encode(format!("me:{token}")))
}

/// A request as it came.
#[derive(Clone, Debug)]
struct Request {
    /// Its lines, the names of headers in lower case.
    head: Vec<String>,
    body: Vec<u8>,
    status: u16,
}

impl Request {
    fn has(&self, header: &str) -> bool {
        self.head.iter().any(|line| line == header)
    }

    /// Whether it brings something; others only try whether somebody answers.
    fn is_batch(&self) -> bool {
        // Nothing is a byte in Snappy.
        self.body.len() > 1
    }
}

/// What is answered to a request: a status and a header.
type Rule = dyn Fn(&Request) -> (u16, String) + Send + Sync;

/// A receiver that looks at every request whole. Its threads end with the process.
struct Receiver {
    addr: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    fn start(rule: impl Fn(&Request) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (for_threads, rule) = (Arc::clone(&requests), Arc::new(rule));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (requests, rule) = (Arc::clone(&for_threads), Arc::clone(&rule));
                thread::spawn(move || serve(&stream, &requests, &*rule));
            }
        });
        Self { addr, requests }
    }

    /// One that takes all.
    fn open() -> Self {
        Self::start(|_| (200, String::new()))
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    fn batches(&self) -> Vec<Request> {
        self.requests().into_iter().filter(Request::is_batch).collect()
    }

    /// What `hits` comes to in what was taken.
    fn hits(&self, kind: &Kind) -> f64 {
        kind.hits(self.batches().iter().filter(|request| request.status == 200))
    }

    fn await_hits(&self, kind: &Kind, hits: f64) {
        until(format!("{hits} hits"), || (self.hits(kind) == hits).then_some(()));
    }
}

/// Serves one connection until it closes.
fn serve(stream: &TcpStream, requests: &Mutex<Vec<Request>>, rule: &Rule) -> Option<()> {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let (mut head, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let line = match line.split_once(':') {
                Some((name, value)) if !head.is_empty() => {
                    if name.eq_ignore_ascii_case("content-length") {
                        length = value.trim().parse().ok()?;
                    }
                    format!("{}:{value}", name.to_ascii_lowercase())
                }
                _ => line.to_owned(),
            };
            head.push(line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let mut request = Request { head, body, status: 0 };
        let (status, header) = rule(&request);
        request.status = status;
        requests.lock().ok()?.push(request);
        write!(writer, "HTTP/1.1 {status} Told\r\n{header}Content-Length: 0\r\n\r\n").ok()?;
    }
}

/// A way to give credentials, in which `TOKEN` stands for the token, `FILE` for a file that holds it, `PROGRAM` for the
/// name of the backend, and `SCHEME` for its word before a token.
struct Way {
    flags: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    /// What has to arrive.
    header: &'static str,
}

const BASIC: &str = "authorization: Basic BASE64";
const SCHEME: &str = "authorization: SCHEME TOKEN";

const OF_LIBRATO: [Way; 4] = [
    Way { flags: &["--username", "me", "--apitoken-file", "FILE"], environment: &[], header: BASIC },
    Way { flags: &["--username", "me", "--apitoken", "TOKEN"], environment: &[], header: BASIC },
    Way { flags: &["--username", "me"], environment: &[("ZIBRATO_PROGRAM_TOKEN", "TOKEN")], header: BASIC },
    Way {
        flags: &[],
        environment: &[("ZIBRATO_PROGRAM_TOKEN_FILE", "FILE"), ("ZIBRATO_PROGRAM_USERNAME", "me")],
        header: BASIC,
    },
];

const OF_OTHERS: [Way; 8] = [
    Way { flags: &["--token-file", "FILE"], environment: &[], header: SCHEME },
    Way { flags: &[], environment: &[("ZIBRATO_PROGRAM_TOKEN_FILE", "FILE")], header: SCHEME },
    Way { flags: &[], environment: &[("ZIBRATO_PROGRAM_TOKEN", "TOKEN")], header: SCHEME },
    Way { flags: &["--token-variable", "MINE"], environment: &[("MINE", "TOKEN")], header: SCHEME },
    Way { flags: &["--username", "me", "--token-file", "FILE"], environment: &[], header: BASIC },
    Way { flags: &["--username", "me"], environment: &[("ZIBRATO_PROGRAM_TOKEN", "TOKEN")], header: BASIC },
    Way {
        flags: &["--token-header", "X-Api-Key", "--token-file", "FILE"],
        environment: &[],
        header: "x-api-key: TOKEN",
    },
    Way {
        flags: &["--header", "X-More: 1", "--header", "X-Key: TOKEN"],
        environment: &[],
        header: "x-key: TOKEN",
    },
];

/// A worker of one backend, and where it finds its token.
struct Rig {
    worker: Worker,
    token: PathBuf,
    home: TempDir,
}

impl Rig {
    fn start(kind: &Kind, broker: &Broker, receiver: &Receiver, token: &str) -> Self {
        let way = Way { flags: kind.file, environment: &[], header: "" };
        Self::given(kind, &way, broker, receiver, token)
    }

    fn given(kind: &Kind, way: &Way, broker: &Broker, receiver: &Receiver, token: &str) -> Self {
        let home = directory();
        let path = home.path().join("token");
        std::fs::write(&path, format!("{token}\n")).unwrap();
        let filled = |text: &str| text.replace("TOKEN", token).replace("FILE", path.to_str().unwrap());
        let mut command = command(&format!("zibrato-{}", kind.name));
        command.args(["--endpoint", &broker.workers, "--flush", "1", "--http", "127.0.0.1:0"]);
        command.args(["--url", &format!("http://{}/", receiver.addr)]).args(kind.flags);
        command.arg("--spool").arg(home.path().join("spool")).args(way.flags.iter().map(|flag| filled(flag)));
        for (key, value) in way.environment {
            command.env(key.replace("PROGRAM", &kind.name.to_uppercase()), filled(value));
        }
        // Nothing may show them, also to who looks closely.
        command.env("RUST_LOG", "trace");
        let mut process = Process::spawn(command);
        let http = field(&process.line("worker started"), "status").to_owned();
        Self { worker: Worker { process, http }, token: path, home }
    }

    /// Puts another token into the file.
    fn write(&self, token: &str) {
        std::fs::write(&self.token, token).unwrap();
    }

    /// Stops the worker. Nothing may be left, nothing lost, and none of these tokens be seen anywhere.
    fn finish(self, tokens: &[&str]) -> Delivery {
        let Self { worker, token, home, .. } = self;
        let pages = ["/metrics", "/status", "/healthz"].map(|path| get(&worker.http, path).1);
        let delivery = worker.finish();
        let is_whole = [" refused [none]", " dropped [none]"].iter().all(|part| delivery.line.contains(part));
        assert!(delivery.held == 0 && is_whole, "{}", delivery.line);
        std::fs::remove_file(token).unwrap();
        let files = files(home.path());
        assert!(!files.is_empty());
        for token in tokens {
            for secret in [(*token).to_owned(), STANDARD.encode(format!("me:{token}"))] {
                assert!(!delivery.stderr.contains(&secret), "{}", delivery.stderr);
                assert!(!pages.iter().any(|page| page.contains(&secret)), "{pages:?}");
                let is_kept =
                    |bytes: &Vec<u8>| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!files.iter().any(is_kept), "a token is in the spool");
            }
        }
        delivery
    }
}

/// What is in the files beneath a directory.
fn files(directory: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![std::fs::read(path).unwrap()] })
        .collect()
}

/// A program that counts hits once.
fn hit(broker: &Broker, hits: u32) {
    let counter = format!("hits={hits}");
    let program = Process::run("once", &["--endpoint", &broker.publishers, "--counter", &counter]);
    assert_eq!(program.code, Some(0), "{}", program.stderr);
}

#[test]
fn each_way_to_give_credentials_sends_the_right_header_and_shows_it_nowhere() {
    let broker = Broker::start();
    // Who comes later is told as well.
    hit(&broker, 3);
    let of = |kind| if kind == "librato" { &OF_LIBRATO[..] } else { &OF_OTHERS };
    let rows: Vec<_> =
        KINDS.iter().flat_map(|kind| of(kind.name).iter().map(move |way| (kind, way))).collect();
    each(
        &rows,
        |(kind, way)| format!("{} {:?} {:?}", kind.name, way.flags, way.environment),
        |(kind, way)| {
            let (token, receiver) = ("canary-11+/=", Receiver::open());
            let rig = Rig::given(kind, way, &broker, &receiver, token);
            receiver.await_hits(kind, 3.0);
            rig.finish(&[token]);
            let expected = way.header.replace("SCHEME", kind.scheme).replace("TOKEN", token);
            let expected = expected.replace("BASE64", &STANDARD.encode(format!("me:{token}")));
            for request in receiver.requests() {
                let is_credential = |line: &&String| {
                    ["authorization:", "x-api-key:", "x-key:"].iter().any(|name| line.starts_with(name))
                };
                let sent: Vec<_> = request.head.iter().filter(is_credential).collect();
                assert_eq!(sent, [&expected], "{request:?}");
            }
        },
    );
}

#[test]
fn a_token_file_that_is_rewritten_counts_from_the_next_flush_on_and_one_that_breaks_keeps_the_last() {
    each(
        &KINDS,
        |kind| kind.name.to_owned(),
        |kind| {
            let (broker, receiver) = (Broker::start(), Receiver::open());
            let mut rig = Rig::start(kind, &broker, &receiver, "canary-21");
            hit(&broker, 1);
            receiver.await_hits(kind, 1.0);
            rig.write("canary-22");
            hit(&broker, 2);
            receiver.await_hits(kind, 3.0);
            rig.write(" \n");
            hit(&broker, 4);
            receiver.await_hits(kind, 7.0);
            rig.worker.process.line("the token read before is kept");
            std::fs::remove_file(&rig.token).unwrap();
            hit(&broker, 8);
            receiver.await_hits(kind, 15.0);
            // Of the length of the one before it, as tokens are.
            rig.write("canary-23");
            hit(&broker, 16);
            receiver.await_hits(kind, 31.0);
            let delivery = rig.finish(&["canary-21", "canary-22", "canary-23"]);
            assert_eq!(delivery.stderr.matches("was read again").count(), 2, "{}", delivery.stderr);
            let expected = [21, 22, 22, 22, 23].map(|number| kind.header(&format!("canary-{number}")));
            let batches = receiver.batches();
            assert_eq!(batches.len(), expected.len());
            for (batch, header) in batches.iter().zip(&expected) {
                assert!(batch.has(header), "{header} is missing in {batch:?}");
            }
        },
    );
}

#[test]
fn what_was_refused_for_an_old_token_arrives_once_with_the_new_one() {
    each(
        &KINDS,
        |kind| kind.name.to_owned(),
        |kind| {
            let broker = Broker::start();
            let new = kind.header("canary-32");
            let receiver =
                Receiver::start(move |request| (if request.has(&new) { 200 } else { 401 }, String::new()));
            let mut rig = Rig::start(kind, &broker, &receiver, "canary-31");
            hit(&broker, 3);
            rig.worker.process.line(REFUSED);
            let health = get(&rig.worker.http, "/healthz");
            assert!(health.0 == 503 && health.1.contains("refuses credentials"), "{health:?}");
            rig.write("canary-32");
            hit(&broker, 4);
            rig.worker.counted("zibrato_worker_accepted_points_total", &[], 2.0);
            // It would wait two minutes; its end cuts that short.
            rig.finish(&["canary-31", "canary-32"]);
            assert_eq!(receiver.hits(kind), 7.0);
            let batches = receiver.batches();
            let statuses: Vec<u16> = batches.iter().map(|batch| batch.status).collect();
            assert_eq!(statuses, [401, 200, 200]);
            assert!(batches[0].has(&kind.header("canary-31")) && batches[0].body == batches[1].body);
        },
    );
}

#[test]
fn a_redirect_is_not_followed_and_what_it_was_the_answer_to_is_kept() {
    let of = |kind| [301, 302, 303, 307, 308].map(|status| (kind, status));
    let rows: Vec<(&'static Kind, u16)> = KINDS.iter().flat_map(of).collect();
    let broker = Broker::start();
    hit(&broker, 3);
    each(
        &rows,
        |(kind, status)| format!("{} {status}", kind.name),
        |(kind, status)| {
            // Nobody accepts there: whoever connects is still waiting at the end.
            let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
            elsewhere.set_nonblocking(true).unwrap();
            let port = elsewhere.local_addr().unwrap().port();
            // Another port, and with it another name.
            let host = if status % 2 == 0 { "localhost" } else { "127.0.0.1" };
            let (location, status) = (format!("Location: http://{host}:{port}/\r\n"), *status);
            let is_moved = Arc::new(AtomicBool::new(true));
            let for_rule = Arc::clone(&is_moved);
            let receiver = Receiver::start(move |_| {
                if for_rule.load(Relaxed) { (status, location.clone()) } else { (200, String::new()) }
            });
            let mut rig = Rig::start(kind, &broker, &receiver, "canary-41");
            rig.worker.process.line(REFUSED);
            assert_eq!(rig.worker.metrics().sum("zibrato_worker_spool_batches", &[]), 1.0);
            is_moved.store(false, Relaxed);
            rig.finish(&["canary-41"]);
            assert_eq!(receiver.hits(kind), 3.0);
            let statuses: Vec<u16> = receiver.batches().iter().map(|batch| batch.status).collect();
            assert_eq!(statuses, [status, 200]);
            assert!(elsewhere.accept().is_err(), "somebody was told");
        },
    );
}

#[test]
fn a_worker_with_several_backends_takes_new_tokens_without_a_signal_and_new_settings_with_one() {
    let (broker, home) = (Broker::start(), directory());
    let (one, two) = (Receiver::open(), Receiver::open());
    let [file, config] = ["token", "worker.toml"].map(|name| home.path().join(name));
    std::fs::write(&file, "canary-51").unwrap();
    let write = |token: &str| {
        let text = format!(
            "endpoint = [{:?}]\nhttp = \"127.0.0.1:0\"\nstate = {:?}\n\
             [[backend]]\nkind = \"otlp\"\nflush = 1\nurl = \"http://{}/\"\ntoken-file = {file:?}\n\
             [[backend]]\nkind = \"librato\"\nflush = 1\nurl = \"http://{}/\"\nusername = \"me\"\napitoken = {token:?}\n",
            broker.workers,
            home.path(),
            one.addr,
            two.addr
        );
        std::fs::write(&config, text).unwrap();
    };
    write("canary-52");
    let [librato, otlp, ..] = &KINDS;
    let await_both = |hits| {
        one.await_hits(otlp, hits);
        two.await_hits(librato, hits);
    };
    let mut process = Process::start("zibrato-worker", &["--config", config.to_str().unwrap()]);
    process.line("worker started");
    hit(&broker, 1);
    await_both(1.0);
    std::fs::write(&file, "canary-53").unwrap();
    hit(&broker, 2);
    await_both(3.0);
    write("canary-54");
    process.signal("HUP");
    process.line("kept=\"otlp\" ended=\"librato\" begun=\"librato\"");
    hit(&broker, 4);
    await_both(7.0);
    let Ended { code, stderr, .. } = process.terminate();
    assert!(code == Some(0) && !stderr.contains("canary"), "{stderr}");
    for (receiver, kind, numbers) in [(one, otlp, [51, 53, 53]), (two, librato, [52, 52, 54])] {
        let batches = receiver.batches();
        assert_eq!(batches.len(), numbers.len());
        for (batch, number) in batches.iter().zip(numbers) {
            assert!(batch.has(&kind.header(&format!("canary-{number}"))), "{number} is missing in {batch:?}");
        }
    }
}

#[test]
fn neither_an_error_of_the_command_line_nor_its_help_shows_a_token() {
    let home = directory();
    let path = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (bad, good) = (path("bad", "canary\u{7}1"), path("good", "canary-61"));
    let lane = path("lane.toml", "[[backend]]\nkind = \"librato\"\napitoken = \"canary-62\"\nflush = 0\n");
    let key = path("key.toml", "[[backend]]\nkind = \"otlp\"\ntoken = \"canary-63\"\n");
    let toml = path("toml.toml", "[[backend]]\nkind = \"librato\"\napitoken = canary-64\n");
    let header = path("header.toml", "[[backend]]\nkind = \"otlp\"\nheader = [\"canary-65\"]\n");
    type Row<'a> = (&'a str, Vec<&'a str>, Option<(&'a str, &'a str)>);
    let rows: Vec<Row<'_>> = vec![
        ("librato", vec!["--apitoken", "canary-1"], None),
        ("librato", vec!["--username", "me", "--apitoken", "canary\u{7}"], None),
        ("librato", vec!["--username", "me", "--apitoken", "canary-1", "--flush", "0"], None),
        ("librato", vec!["--apitoken", "canary-1", "--apitoken-file", &good], None),
        ("librato", vec!["--username", "a:b", "--apitoken", "canary-1"], None),
        ("librato", vec!["--username", "me", "--apitoken-file", &bad], None),
        ("librato", vec!["--url", "http://me:canary@127.0.0.1/"], None),
        ("librato", vec!["--url", "http://192.0.2.1/", "--username", "me", "--apitoken", "canary-1"], None),
        ("librato", vec!["--flush", "0"], Some(("ZIBRATO_LIBRATO_TOKEN", "canary-1"))),
        ("librato", vec![], Some(("ZIBRATO_LIBRATO_TOKEN", "canary-1"))),
        ("otlp", vec!["--token-file", &bad], None),
        ("otlp", vec!["--token-file", &good, "--token-header", "a b"], None),
        ("otlp", vec!["--header", "canary-1"], None),
        ("otlp", vec!["--header", "a b: canary-1"], None),
        ("otlp", vec!["--header", "X-Key: canary\u{7}"], None),
        ("otlp", vec![], Some(("ZIBRATO_OTLP_TOKEN", "canary\u{7}"))),
        ("otlp", vec![], Some(("ZIBRATO_OTLP_HEADER", "canary-1"))),
        ("influx", vec!["--database", "shop", "--url", "http://me:canary@127.0.0.1/"], None),
        ("prometheus", vec!["--url", "http://me:canary@127.0.0.1/"], None),
        ("worker", vec!["--config", &lane], None),
        ("worker", vec!["--config", &key], None),
        ("worker", vec!["--config", &toml], None),
        ("worker", vec!["--config", &header], None),
    ];
    let run = |name: &str, args: &[&str], variable: Option<(&str, &str)>| {
        let mut command = command(&format!("zibrato-{name}"));
        command.args(args).envs(variable).env("STATE_DIRECTORY", home.path());
        Process::spawn(command).wait()
    };
    let mut shown = Vec::new();
    for (name, args, variable) in &rows {
        let Ended { code, stdout, stderr } = run(name, &[&args[..], &["--check-config"]].concat(), *variable);
        if code != Some(2) || (stdout + &stderr).contains("canary") {
            shown.push(format!("{name} {args:?} {variable:?}: {code:?} {stderr}"));
        }
    }
    for kind in &KINDS {
        for flag in ["TOKEN", "HEADER", "URL"] {
            let variable = format!("ZIBRATO_{}_{flag}", kind.name.to_uppercase());
            for help in ["-h", "--help"] {
                let Ended { code, stdout, stderr } =
                    run(kind.name, &[help], Some((&variable, "X-Key: canary-1")));
                if code != Some(0) || (stdout + &stderr).contains("canary") {
                    shown.push(format!("{variable} {help}: {code:?}"));
                }
            }
        }
    }
    assert!(shown.is_empty(), "{}", shown.join("\n"));
}
