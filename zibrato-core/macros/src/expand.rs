//! From arguments and function to the instrumented function.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Attribute as Attr, Error, Expr, Result};

use crate::arguments::{Arguments, Level};
use crate::class::Class;
use crate::function::Function;
use crate::home::Home;

/// Which of the two attributes is expanded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Attribute {
    CountMe,
    TimeMe,
}

impl Attribute {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::CountMe => "count_me",
            Self::TimeMe => "time_me",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::CountMe => Self::TimeMe,
            Self::TimeMe => Self::CountMe,
        }
    }

    /// The arguments it takes.
    pub(crate) const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::CountMe => &["level", "name", "value", "source", "unit", "tags", "crate"],
            Self::TimeMe => &["level", "name", "source", "unit", "tags", "sampled", "crate"],
        }
    }
}

/// The instrumented function, or a compile error followed by the item as it was: without the item,
/// each use of it would be one more error.
pub(crate) fn expand(attribute: Attribute, arguments: TokenStream, item: TokenStream) -> TokenStream {
    try_expand(attribute, arguments, item.clone()).unwrap_or_else(|error| {
        let error = error.into_compile_error();
        quote!(#error #item)
    })
}

/// As [`expand`], with the error apart.
pub(crate) fn try_expand(
    attribute: Attribute,
    arguments: TokenStream,
    item: TokenStream,
) -> Result<TokenStream> {
    let function = Function::parse(attribute, item)?;
    let arguments = Arguments::parse(attribute, arguments)?;
    refuse_clash(attribute, &arguments, &function)?;
    let home = match &arguments.home {
        Some(path) => Home::given(path),
        None => Home::found()?,
    };
    let record = record(attribute, &arguments, &home, &function.sig.ident)?;
    Ok(function.with_first(&record))
}

/// Refuses two attributes on one function that would declare a counter and a timer of one series:
/// a client takes the first kind that it meets and refuses the other's records.
fn refuse_clash(attribute: Attribute, arguments: &Arguments, function: &Function) -> Result<()> {
    let other = attribute.other();
    let is_other =
        |attr: &&Attr| attr.path().segments.last().is_some_and(|last| last.ident == other.as_str());
    for attr in function.attrs.iter().filter(is_other) {
        // What is wrong in the other attribute is told when its turn comes.
        let Ok(tokens) = attr.meta.require_list().map(|list| list.tokens.clone()) else { continue };
        let Ok(others) = Arguments::parse(other, tokens) else { continue };
        if arguments.series() == others.series() {
            let (one, two) = (attribute.as_str(), other.as_str());
            let text = format!(
                "{one} and {two} would make two kinds of metric with one name: give one of them another `name`"
            );
            return Err(Error::new(Span::call_site(), text));
        }
    }
    Ok(())
}

/// The static metric and the statement that records into it.
fn record(attribute: Attribute, arguments: &Arguments, home: &Home, function: &Ident) -> Result<TokenStream> {
    let (new, metric) = match attribute {
        Attribute::CountMe => {
            (home.metric("Counter"), format_ident!("__ZIBRATO_COUNTER", span = Span::mixed_site()))
        }
        Attribute::TimeMe => {
            (home.metric("Timer"), format_ident!("__ZIBRATO_TIMER", span = Span::mixed_site()))
        }
    };
    let kind = if arguments.sampled.is_some() { home.metric("SampledTimer") } else { new.clone() };
    let sampled = arguments.sampled.as_ref().map(|n| quote!(.sampled(#n)));
    let name = match &arguments.name {
        Some(name) => name.to_token_stream(),
        None => default_name(function)?,
    };
    let level = match &arguments.level {
        Level::Constant(level) => level.to_token_stream(),
        Level::Label(label) => {
            let level = home.level();
            quote!(#level::named(#label))
        }
    };
    let source = arguments.source.as_ref().map(|source| quote!(.source(#source)));
    let unit = arguments.unit.as_ref().map(|unit| quote!(.unit(#unit)));
    let tags = if arguments.tags.is_empty() {
        None
    } else {
        let pairs = arguments.tags.iter().map(|(key, value)| quote!((#key, #value)));
        Some(quote!(.tags(&[#(#pairs),*])))
    };
    let statement = match attribute {
        Attribute::CountMe => {
            let one = quote!(1);
            let value = arguments.value.as_ref().map_or(one, Expr::to_token_stream);
            quote!(#metric.add(#value);)
        }
        // The first local of a body is the last one to be dropped.
        Attribute::TimeMe => quote_spanned!(Span::mixed_site()=> let __zibrato_guard = #metric.start();),
    };
    Ok(quote! {
        static #metric: #kind = #new::new(#name, #level) #source #unit #tags #sampled;
        #statement
    })
}

/// `module::path::function`, of which only the last part is known before the compiler expands
/// `module_path!()`.
fn default_name(function: &Ident) -> Result<TokenStream> {
    let word = function.unraw().to_string();
    if let Err(reason) = Class::Name.check(&word) {
        let text =
            format!("the function's name cannot name the metric, give one with `name = \"…\"`: {reason}");
        return Err(Error::new(function.span(), text));
    }
    Ok(quote!(::core::concat!(::core::module_path!(), "::", #word)))
}

/// Braces around `tokens`, with the place of the braces that they replace.
pub(crate) fn braced(tokens: TokenStream, span: Span) -> Group {
    let mut group = Group::new(Delimiter::Brace, tokens);
    group.set_span(span);
    group
}

#[cfg(test)]
mod tests;
