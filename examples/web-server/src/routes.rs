//! The routes, each instrumented in another way.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use zibrato_std::{Client, Counter, Gauge, Level, Timer, count_me, time_me};

/// Longest work that a request may ask for, in milliseconds.
const WORK_MS_MAX: u64 = 10_000;

static IN_FLIGHT: Gauge = Gauge::new("web.in_flight", Level::INFO);
/// On demand: no clock is read unless somebody subscribes to debug.
static RENDER: Timer = Timer::new("web.render", Level::DEBUG).unit("s");

/// All routes.
pub(crate) fn router(client: &Client) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/hello/{name}", get(hello))
        .route("/work/{ms}", get(work))
        .route("/upload", post(upload))
        .layer(from_fn_with_state(Responses::new(client), observe))
}

/// One attribute counts the calls, the other one times them.
#[count_me(level = "info", name = "web.requests", tags(route = "/"))]
#[time_me(level = "info", name = "web.latency", unit = "s", tags(route = "/"))]
async fn index() -> &'static str {
    "try /hello/you, /work/250 and POST /upload\n"
}

/// A part of the handler has a timer of its own.
#[count_me(level = "info", name = "web.requests", tags(route = "/hello"))]
#[time_me(level = "info", name = "web.latency", unit = "s", tags(route = "/hello"))]
async fn hello(Path(name): Path<String>) -> String {
    RENDER.measure(|| format!("hello {name}\n"))
}

/// Waiting belongs to the time of an async function. An early return is timed as well.
#[count_me(level = "info", name = "web.requests", tags(route = "/work"))]
#[time_me(level = "info", name = "web.latency", unit = "s", tags(route = "/work"))]
async fn work(Path(ms): Path<u64>) -> (StatusCode, String) {
    if ms > WORK_MS_MAX {
        let text = format!("work of {ms} ms is not accepted: give 0 to {WORK_MS_MAX}\n");
        return (StatusCode::BAD_REQUEST, text);
    }
    tokio::time::sleep(Duration::from_millis(ms)).await;
    (StatusCode::OK, format!("worked {ms} ms\n"))
}

/// The value of a counter may be computed from the arguments.
#[count_me(level = "info", name = "web.upload.bytes", value = body.len() as u64, unit = "B")]
#[time_me(level = "info", name = "web.latency", unit = "s", tags(route = "/upload"))]
async fn upload(body: Bytes) -> String {
    format!("took {} bytes\n", body.len())
}

/// Counters whose tag is known only at run time: one for each class of status, made once.
#[derive(Clone, Copy)]
struct Responses {
    by_class: [&'static Counter; 5],
}

impl Responses {
    fn new(client: &Client) -> Self {
        let counter = |class| client.counter("web.responses", Level::INFO).tag("status", class).get();
        Self { by_class: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(counter) }
    }

    fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).wrapping_sub(1);
        if let Some(counter) = self.by_class.get(class) {
            counter.increment();
        }
    }
}

async fn observe(State(responses): State<Responses>, request: Request, next: Next) -> Response {
    let in_flight = InFlight::enter();
    let response = next.run(request).await;
    responses.count(response.status());
    drop(in_flight);
    response
}

static NOW_IN_FLIGHT: AtomicU32 = AtomicU32::new(0);

/// A request under way. Also a client that hangs up half-way leaves.
struct InFlight;

impl InFlight {
    fn enter() -> Self {
        IN_FLIGHT.set(f64::from(NOW_IN_FLIGHT.fetch_add(1, Ordering::Relaxed) + 1));
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        IN_FLIGHT.set(f64::from(NOW_IN_FLIGHT.fetch_sub(1, Ordering::Relaxed) - 1));
    }
}
