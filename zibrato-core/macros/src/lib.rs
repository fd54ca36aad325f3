//! The attributes `#[count_me]` and `#[time_me]`: a metric for a function, in one line above it.
//!
//! `zibrato-std` and `zibrato-core` (feature `macros`) export both attributes; nobody needs to
//! depend on this crate.
//!
//! # Arguments
//!
//! | argument | what it takes | default |
//! |---|---|---|
//! | `level` | a string literal, or the path of a `Level` constant. `"debug"` and `"trace"` are on demand | none: it must be given |
//! | `name` | text: 1 to 255 of `A-Za-z0-9.:_-` | `module::path::function` |
//! | `value` | `count_me` only: an expression of type `u64` | 1 |
//! | `source` | text: 1 to 255 of `A-Za-z0-9.:_-` | the client's source |
//! | `unit` | text: at most 32 bytes without control characters | none |
//! | `tags` | `tags(route = "/x", "http.method" = "GET")` or `tags = [("route", "/x")]`: at most 8, keys 1 to 64 of `A-Za-z0-9.:_-`, values 1 to 255 bytes without control characters | none |
//! | `sampled` | `time_me` only: a power of two from 2 to 65 536, or the path of a `u32` constant: one call in so many is timed, all are counted (`Timer::sampled`) | every call is timed |
//! | `crate` | the path of a crate or module with the metric types | found in `Cargo.toml` |
//!
//! *Text* is a string literal, the path of a `&'static str` constant, or a macro such as `env!`.
//! Texts are checked when compiling. An unknown or repeated argument does not compile.
//!
//! # Where an attribute may stand
//!
//! On each function with a body: free or associated, method of a trait's impl or default method of
//! a trait, sync or async, generic, `unsafe`, `extern "C"`. On a `const fn` it does not compile.
//! All instances of a generic function share one metric. Attributes, documentation, visibility and
//! signature of the function stay as they are, and it returns what it returned.
//!
//! The default name does not contain the type of a method, which an attribute cannot see: two
//! methods of one name in one module are one series unless they get a `name` each.
//!
//! Both attributes may stand on one function. They make two metrics, a counter and a timer, and a
//! series has one kind: at one level they need different names (or sources, or tags). The same ones
//! do not compile, where they are written alike.
//!
//! In an `async fn` an attribute acts in the future and not in the call that makes it: a future that is
//! never polled records nothing. The same holds for a function whose last expression is
//! `Box::pin(async …)`, which is what `async_trait` makes of an `async fn`. In a function that
//! returns another `impl Future` the attribute acts in the call.
//!
//! # How the metric types are found
//!
//! In the dependencies and dev-dependencies of the package, by whatever name they have there:
//! `zibrato-std`, else `zibrato-core`. `crate = path` says it otherwise, for example in code that a
//! `macro_rules!` macro of a library puts into a package that depends on neither. A path that ends
//! in `zibrato_core` names that crate; any other must have `Counter`, `Timer`, `Level` and,
//! where `sampled` stands, `SampledTimer`, as `zibrato-std` has them. A package that has `zibrato-core` as a dependency and `zibrato-std` only
//! as a dev-dependency has to say `crate = zibrato_core`.

mod arguments;
mod class;
mod expand;
mod function;
mod home;

use proc_macro::TokenStream;

use crate::expand::{Attribute, expand};

/// Counts the calls of a function, or adds a value for each call.
///
/// The value is added before the body runs, so a call that returns early, fails or panics counts
/// too. It may be computed from the arguments, and is computed for each call whether or not the
/// level is on; the function's arguments must still be usable after it. Takes the arguments listed
/// in the documentation of [zibrato-macros](crate).
///
/// # Examples
///
/// ```
/// use zibrato_core::count_me;
/// use zibrato_core::level::Level;
///
/// const AUDIT: Level = Level::new("audit");
///
/// #[count_me(level = "info", name = "handled", value = 5)]
/// fn handle() -> Result<(), std::num::ParseIntError> {
///     let _number: u32 = "7".parse()?;
///     Ok(())
/// }
///
/// #[count_me(level = AUDIT, value = bytes.len() as u64, unit = "B", tags(direction = "in"))]
/// async fn receive(bytes: &[u8]) -> bool {
///     bytes.is_empty()
/// }
///
/// # fn main() -> Result<(), std::num::ParseIntError> {
/// handle()?;
/// # drop(receive(b""));
/// # Ok(())
/// # }
/// ```
///
/// A value must be a `u64`, and a constant must be a text that its argument accepts:
///
/// ```compile_fail,E0308
/// # use zibrato_core::count_me;
/// #[count_me(level = "info", value = bytes.len())]
/// fn receive(bytes: &[u8]) {}
/// ```
///
/// ```compile_fail,E0080
/// # use zibrato_core::count_me;
/// const NAME: &str = "with space";
///
/// #[count_me(level = "info", name = NAME)]
/// fn receive() {}
/// # fn main() { receive() }
/// ```
#[proc_macro_attribute]
pub fn count_me(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(Attribute::CountMe, arguments.into(), item.into()).into()
}

/// Measures how long a function runs.
///
/// The clock is read before the body and after its locals are dropped; the time is recorded also if
/// the function returns early, fails, or unwinds from a panic. In an `async fn` the measurement lives
/// in the future: from its first poll to its end, waiting included. A future that is dropped earlier
/// records the time until its drop; one that is never polled records nothing. Dropping the
/// function's own arguments comes after the measurement.
///
/// With `sampled = 64` one call in 64 is timed and all are counted, for functions so short that two readings
/// of the clock are too much.
///
/// If the level is off at the start, no clock is read and the call is not recorded. Takes the
/// arguments listed in the documentation of [zibrato-macros](crate). Timers need a clock, so in `zibrato-core`
/// this one works with the feature `std`.
///
/// # Examples
///
/// ```
/// use zibrato_core::level::Level;
/// use zibrato_core::time_me;
///
/// #[time_me(level = "debug", name = "handle")]
/// async fn handle(request: u32) -> Result<u32, std::num::TryFromIntError> {
///     let small = u8::try_from(request)?;
///     Ok(u32::from(small))
/// }
///
/// struct Store;
///
/// impl Store {
///     #[time_me(level = Level::INFO, name = "store.get", source = env!("CARGO_PKG_NAME"), tags(table = "users"))]
///     pub fn get<K: AsRef<str>>(&self, key: K) -> impl Iterator<Item = char> {
///         key.as_ref().chars().rev().collect::<Vec<_>>().into_iter()
///     }
/// }
///
/// assert_eq!(Store.get("ab").collect::<String>(), "ba");
/// # drop(handle(7));
/// ```
///
/// ```compile_fail
/// # use zibrato_core::time_me;
/// #[time_me(level = "info")]
/// const fn fast() {}
/// ```
#[proc_macro_attribute]
pub fn time_me(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(Attribute::TimeMe, arguments.into(), item.into()).into()
}
