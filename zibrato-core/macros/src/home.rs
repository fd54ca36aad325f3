//! Under which path the generated code finds the metric types and `Level`.

use std::env;

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Error, Path, Result};

const CORE: &str = "zibrato_core";

/// A crate or module with the metric types, in one of two layouts.
pub(crate) enum Home {
    /// `Counter`, `Timer` and `Level` at the root, as in `zibrato-std`.
    Flat(TokenStream),
    /// In `metric` and `level`, as in `zibrato-core`.
    Core(TokenStream),
}

impl Home {
    /// The path that the user gave with `crate = …`.
    pub(crate) fn given(path: &Path) -> Self {
        let is_core = path.segments.last().is_some_and(|segment| segment.ident == CORE);
        if is_core { Self::Core(quote!(#path)) } else { Self::Flat(quote!(#path)) }
    }

    /// The dependency of the package being compiled: `zibrato-std`, else `zibrato-core`.
    pub(crate) fn found() -> Result<Self> {
        if let Ok(found) = crate_name("zibrato-std") {
            return Ok(Self::Flat(path_to(found, "zibrato_std")));
        }
        if let Ok(found) = crate_name("zibrato-core") {
            return Ok(Self::Core(path_to(found, CORE)));
        }
        Err(Error::new(
            Span::call_site(),
            "neither zibrato-std nor zibrato-core is a dependency of this package: \
             add one, or name its path with `crate = some::path`",
        ))
    }

    /// The type of a metric: `Counter`, `Timer` or `SampledTimer`.
    pub(crate) fn metric(&self, kind: &str) -> TokenStream {
        let kind = format_ident!("{kind}");
        match self {
            Self::Flat(root) => quote!(#root::#kind),
            Self::Core(root) => quote!(#root::metric::#kind),
        }
    }

    /// The type `Level`.
    pub(crate) fn level(&self) -> TokenStream {
        match self {
            Self::Flat(root) => quote!(#root::Level),
            Self::Core(root) => quote!(#root::level::Level),
        }
    }
}

fn path_to(found: FoundCrate, own_name: &str) -> TokenStream {
    let name = match found {
        FoundCrate::Name(name) => name,
        FoundCrate::Itself if is_in_library(own_name, |name| env::var(name).ok()) => return quote!(crate),
        FoundCrate::Itself => own_name.to_owned(),
    };
    let name = Ident::new(&name, Span::call_site());
    quote!(::#name)
}

/// Whether the library itself is compiled, and not an example, a benchmark or a doctest of its
/// package: those see the library as a dependency under its own name.
fn is_in_library(own_name: &str, variable: impl Fn(&str) -> Option<String>) -> bool {
    variable("CARGO_CRATE_NAME").is_some_and(|name| name == own_name)
        && variable("CARGO_BIN_NAME").is_none()
        // Rustdoc sets this one for each doctest it compiles.
        && variable("UNSTABLE_RUSTDOC_TEST_PATH").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_library_itself_is_the_crate() {
        let of = |set: &[(&str, &str)]| {
            is_in_library(CORE, |name| {
                set.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let library = ("CARGO_CRATE_NAME", CORE);
        assert!(of(&[library]));
        assert!(!of(&[]), "a doctest, in some versions of cargo");
        assert!(!of(&[library, ("UNSTABLE_RUSTDOC_TEST_PATH", "src/lib.rs")]), "a doctest, in others");
        assert!(!of(&[library, ("CARGO_BIN_NAME", "zibrato-core")]), "a binary named like the library");
        assert!(!of(&[("CARGO_CRATE_NAME", "latency")]), "an example");
    }

    #[test]
    fn a_given_path_is_taken_in_the_layout_of_what_it_names() {
        let of = |path: &str| {
            let home = Home::given(&syn::parse_str(path).unwrap());
            (home.metric("Timer").to_string().replace(' ', ""), home.level().to_string().replace(' ', ""))
        };
        let core = ("::zibrato_core::metric::Timer".to_owned(), "::zibrato_core::level::Level".to_owned());
        assert_eq!(of("::zibrato_core"), core);
        assert_eq!(
            of("crate::metrics"),
            ("crate::metrics::Timer".to_owned(), "crate::metrics::Level".to_owned())
        );
    }

    #[test]
    fn a_dependency_is_found_under_its_own_name() {
        // The manifest read is this package's, which has zibrato-core as a dev-dependency.
        let home = Home::found().unwrap();
        assert_eq!(home.metric("Counter").to_string().replace(' ', ""), "::zibrato_core::metric::Counter");
    }
}
