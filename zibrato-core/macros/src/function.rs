//! The function under an attribute.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::parse::{ParseStream, Parser};
use syn::{Attribute as Attr, Block, Error, Expr, Item, Result, Signature, Stmt, Token, Visibility, braced};

use crate::expand::{Attribute, braced};

/// A function with a body. The body stays tokens: it passes through untouched.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attr>,
    vis: Visibility,
    pub(crate) sig: Signature,
    inner_attrs: Vec<Attr>,
    body: TokenStream,
    braces: Span,
}

impl Function {
    /// Parses a free function, an associated one, or one of a trait with a default body.
    pub(crate) fn parse(attribute: Attribute, item: TokenStream) -> Result<Self> {
        (|input: ParseStream<'_>| parse_function(attribute, input)).parse2(item.clone()).map_err(|error| {
            // Something that is no function at all gets our text, not the parser's "expected `fn`".
            match syn::parse2::<Item>(item.clone()) {
                Ok(Item::Fn(_) | Item::Verbatim(_)) | Err(_) => error,
                Ok(_) => Error::new_spanned(
                    item,
                    format!("{} takes a function with a body: set it on each function", attribute.as_str()),
                ),
            }
        })
    }

    /// The same function with `record` before everything in its body.
    ///
    /// The body becomes a block of its own, so that nothing in it can see or shadow what comes
    /// first. A body that ends in `Box::pin(async …)` is an async function by hand or by the
    /// `async_trait` attribute: there the future is what runs, so `record` goes into it.
    pub(crate) fn with_first(&self, record: &TokenStream) -> TokenStream {
        let Self { attrs, vis, sig, inner_attrs, body, braces } = self;
        let body = match with_first_in_boxed_future(self, record) {
            Some(body) => braced(quote!(#(#inner_attrs)* #body), *braces),
            None => {
                let body = braced(body.clone(), inner(*braces));
                braced(quote!(#(#inner_attrs)* #record #body), *braces)
            }
        };
        quote!(#(#attrs)* #vis #sig #body)
    }
}

fn parse_function(attribute: Attribute, input: ParseStream<'_>) -> Result<Function> {
    let attrs = input.call(Attr::parse_outer)?;
    let vis = input.parse()?;
    let sig: Signature = input.parse()?;
    let attribute = attribute.as_str();
    if let Some(constness) = &sig.constness {
        let text = format!(
            "{attribute} cannot record in a const fn, which may run in the compiler: remove one of them"
        );
        return Err(Error::new_spanned(constness, text));
    }
    if input.peek(Token![;]) {
        let text =
            format!("{attribute} takes a function with a body: set it where `{}` is implemented", sig.ident);
        return Err(Error::new_spanned(&sig.ident, text));
    }
    let content;
    let braces = braced!(content in input).span.join();
    let inner_attrs = content.call(Attr::parse_inner)?;
    let body = content.parse()?;
    Ok(Function { attrs, vis, sig, inner_attrs, body, braces })
}

fn with_first_in_boxed_future(function: &Function, record: &TokenStream) -> Option<TokenStream> {
    if function.sig.asyncness.is_some() {
        return None;
    }
    let mut statements = Block::parse_within.parse2(function.body.clone()).ok()?;
    let Some(Stmt::Expr(Expr::Call(call), None)) = statements.last_mut() else { return None };
    let Expr::Path(callee) = &*call.func else { return None };
    let mut path = callee.path.segments.iter().rev();
    if path.next()?.ident != "pin" || path.next()?.ident != "Box" || call.args.len() != 1 {
        return None;
    }
    let Some(Expr::Async(future)) = call.args.first_mut() else { return None };
    let braces = future.block.brace_token.span.join();
    let statements_inside = &future.block.stmts;
    let body = braced(quote!(#(#statements_inside)*), inner(braces));
    future.block = syn::parse2(braced(quote!(#record #body), braces).into_token_stream()).ok()?;
    Some(quote!(#(#statements)*))
}

/// The place of the user's braces, but marked as generated: for doubled braces that a user wrote,
/// the compiler warns.
fn inner(braces: Span) -> Span {
    Span::mixed_site().located_at(braces)
}
