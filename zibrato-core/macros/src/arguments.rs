//! The arguments in the parentheses of an attribute.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprLit, Ident, Lit, LitStr, Path, Result, Token, UnOp, parenthesized, token};

use crate::class::{Class, TAGS_MAX};
use crate::expand::Attribute;

/// What `Timer::sampled` accepts, of it the powers of two.
const ONE_IN: std::ops::RangeInclusive<u32> = 2..=65_536;

/// What the user wrote, checked as far as it is literal.
pub(crate) struct Arguments {
    pub(crate) level: Level,
    pub(crate) name: Option<Expr>,
    pub(crate) value: Option<Expr>,
    pub(crate) source: Option<Expr>,
    pub(crate) unit: Option<Expr>,
    pub(crate) tags: Vec<(Expr, Expr)>,
    pub(crate) sampled: Option<Expr>,
    pub(crate) home: Option<Path>,
}

/// `level = …`
pub(crate) enum Level {
    /// A label, to be given to `Level::named`.
    Label(Expr),
    /// A path to a constant of type `Level`.
    Constant(Expr),
}

impl Arguments {
    /// Parses the tokens between the parentheses.
    pub(crate) fn parse(attribute: Attribute, tokens: TokenStream) -> Result<Self> {
        (|input: ParseStream<'_>| parse_all(attribute, input)).parse2(tokens)
    }

    /// What makes two metrics one series, as far as it shows in the tokens.
    pub(crate) fn series(&self) -> impl PartialEq + use<> {
        let text = |expr: &Expr| expr.to_token_stream().to_string();
        let (Level::Label(level) | Level::Constant(level)) = &self.level;
        let mut tags: Vec<_> = self.tags.iter().map(|(key, value)| (text(key), text(value))).collect();
        tags.sort_unstable();
        (text(level), self.name.as_ref().map(text), self.source.as_ref().map(text), tags)
    }
}

fn parse_all(attribute: Attribute, input: ParseStream<'_>) -> Result<Arguments> {
    let (mut level, mut name, mut value, mut source, mut unit, mut sampled, mut home) =
        (None, None, None, None, None, None, None);
    let mut tags = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    while !input.is_empty() {
        let argument = parse_argument_name(attribute, input)?;
        let word = argument.to_string();
        if seen.contains(&word) {
            return Err(Error::new(argument.span(), format!("`{word}` is given twice: keep one of them")));
        }
        if word != "tags" {
            parse_equals(input, &argument)?;
        }
        match word.as_str() {
            "level" => level = Some(parse_level(input)?),
            "name" => name = Some(parse_text(input, Class::Name)?),
            "value" => value = Some(parse_value(input)?),
            "source" => source = Some(parse_text(input, Class::Source)?),
            "unit" => unit = Some(parse_text(input, Class::Unit)?),
            "tags" => tags = parse_tags(input, &argument)?,
            "sampled" => sampled = Some(parse_sampled(input)?),
            _ => home = Some(parse_home(input)?),
        }
        seen.push(word);
        if !input.is_empty() && input.parse::<Token![,]>().is_err() {
            return Err(input.error(format!("expected `,` between the arguments of {}", attribute.as_str())));
        }
    }
    let level = level.ok_or_else(|| {
        let attribute = attribute.as_str();
        let text =
            format!("`level` is missing: say at which level to record, as in {attribute}(level = \"info\")");
        Error::new(Span::call_site(), text)
    })?;
    Ok(Arguments { level, name, value, source, unit, tags, sampled, home })
}

fn parse_argument_name(attribute: Attribute, input: ParseStream<'_>) -> Result<Ident> {
    let (known, attribute) = (attribute.arguments(), attribute.as_str());
    let accepted = known.join(", ");
    if !input.peek(Ident::peek_any) {
        return Err(input.error(format!("expected an argument of {attribute}: accepted are {accepted}")));
    }
    let argument = input.call(Ident::parse_any)?;
    if known.iter().any(|word| argument == word) {
        return Ok(argument);
    }
    let text = format!("`{argument}` is not an argument of {attribute}: accepted are {accepted}");
    Err(Error::new(argument.span(), text))
}

fn parse_equals(input: ParseStream<'_>, argument: &Ident) -> Result<()> {
    if input.parse::<Token![=]>().is_ok() && has_value(input) {
        return Ok(());
    }
    Err(Error::new(argument.span(), format!("`{argument}` has no value: write {argument} = …")))
}

fn has_value(input: ParseStream<'_>) -> bool {
    !input.is_empty() && !input.peek(Token![,])
}

fn parse_level(input: ParseStream<'_>) -> Result<Level> {
    let expr = parse_expr(input)?;
    if let Some(label) = literal(&expr) {
        check(Class::Level, label)?;
        return Ok(Level::Label(expr));
    }
    if let Expr::Path(_) = expr {
        return Ok(Level::Constant(expr));
    }
    let text =
        "`level` takes a string literal such as \"info\" or the path of a constant such as Level::INFO";
    Err(Error::new_spanned(expr, text))
}

/// A literal is checked here; a constant or macro is checked when the static is evaluated.
fn parse_text(input: ParseStream<'_>, class: Class) -> Result<Expr> {
    let expr = parse_expr(input)?;
    check_text(&expr, class)?;
    Ok(expr)
}

fn check_text(expr: &Expr, class: Class) -> Result<()> {
    if let Some(text) = literal(expr) {
        return check(class, text);
    }
    if let Expr::Path(_) | Expr::Macro(_) = expr {
        return Ok(());
    }
    let (what, accepted) = (class.as_str(), class.accepted());
    let takes = "takes a string literal, the path of a constant or a macro such as concat!";
    Err(Error::new_spanned(expr, format!("`{what}` {takes}: accepted are {accepted}")))
}

fn literal(expr: &Expr) -> Option<&LitStr> {
    match expr {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text),
        _ => None,
    }
}

fn check(class: Class, text: &LitStr) -> Result<()> {
    class.check(&text.value()).map_err(|reason| Error::new(text.span(), reason))
}

fn parse_value(input: ParseStream<'_>) -> Result<Expr> {
    const ACCEPTED: &str = "`value` takes a non-negative whole number or an expression of type u64";
    let expr = parse_expr(input)?;
    let negative = matches!(&expr, Expr::Unary(unary)
        if matches!(unary.op, UnOp::Neg(_)) && matches!(*unary.expr, Expr::Lit(_)));
    let not_a_number = matches!(&expr, Expr::Lit(literal) if !matches!(literal.lit, Lit::Int(_)));
    if negative || not_a_number {
        return Err(Error::new_spanned(expr, ACCEPTED));
    }
    Ok(expr)
}

/// One call in how many is timed. A literal is checked here; a constant when the static is evaluated.
fn parse_sampled(input: ParseStream<'_>) -> Result<Expr> {
    const ACCEPTED: &str =
        "`sampled` takes a power of two from 2 to 65536, or the path of a constant of type u32 that is one";
    let expr = parse_expr(input)?;
    let is_accepted = match &expr {
        Expr::Lit(ExprLit { lit: Lit::Int(n), .. }) => {
            n.base10_parse::<u32>().is_ok_and(|n| n.is_power_of_two() && ONE_IN.contains(&n))
        }
        other => matches!(other, Expr::Path(_)),
    };
    if is_accepted { Ok(expr) } else { Err(Error::new_spanned(expr, ACCEPTED)) }
}

fn parse_home(input: ParseStream<'_>) -> Result<Path> {
    let at = input.span();
    input.call(Path::parse_mod_style).map_err(|_| {
        Error::new(
            at,
            "`crate` takes the path of a crate or module with the metric types, as in crate = my::metrics",
        )
    })
}

fn parse_expr(input: ParseStream<'_>) -> Result<Expr> {
    input.parse().map(ungrouped)
}

/// Takes off the invisible parentheses that a `macro_rules!` variable brings along.
fn ungrouped(mut expr: Expr) -> Expr {
    while let Expr::Group(group) = expr {
        expr = *group.expr;
    }
    expr
}

/// `tags(key = "value", "other.key" = "value")` or `tags = [("key", "value")]`.
fn parse_tags(input: ParseStream<'_>, argument: &Ident) -> Result<Vec<(Expr, Expr)>> {
    const ACCEPTED: &str = "`tags` takes tags(key = \"value\") or tags = [(\"key\", \"value\")]";
    let tags: Vec<(Expr, Expr)> = if input.peek(token::Paren) {
        let content;
        parenthesized!(content in input);
        let pairs = Punctuated::<Pair, Token![,]>::parse_terminated(&content)?;
        pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()
    } else if input.peek(Token![=]) {
        parse_equals(input, argument)?;
        let refused = |at: &dyn ToTokens| Error::new_spanned(at.to_token_stream(), ACCEPTED);
        let list = match parse_expr(input)? {
            Expr::Reference(reference) => *reference.expr,
            other => other,
        };
        let Expr::Array(list) = list else { return Err(refused(&list)) };
        let pair = |expr: &Expr| match expr {
            Expr::Tuple(tuple) if tuple.elems.len() == 2 => {
                Ok((ungrouped(tuple.elems[0].clone()), ungrouped(tuple.elems[1].clone())))
            }
            other => Err(refused(other)),
        };
        list.elems.iter().map(pair).collect::<Result<_>>()?
    } else {
        return Err(Error::new(argument.span(), ACCEPTED));
    };
    check_tags(&tags)?;
    Ok(tags)
}

fn check_tags(tags: &[(Expr, Expr)]) -> Result<()> {
    if let Some((key, _)) = tags.get(TAGS_MAX) {
        let text = format!("{} tags are too many: accepted are at most {TAGS_MAX}", tags.len());
        return Err(Error::new_spanned(key, text));
    }
    for (at, (key, value)) in tags.iter().enumerate() {
        check_text(key, Class::TagKey)?;
        check_text(value, Class::TagValue)?;
        let Some(word) = literal(key).map(LitStr::value) else { continue };
        if tags[..at].iter().any(|(earlier, _)| literal(earlier).is_some_and(|it| it.value() == word)) {
            return Err(Error::new_spanned(key, format!("tag {word:?} is given twice: keep one of them")));
        }
    }
    Ok(())
}

struct Pair {
    key: Expr,
    value: Expr,
}

impl Parse for Pair {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let key = if input.peek(LitStr) {
            input.parse::<LitStr>()?
        } else if input.peek(Ident::peek_any) {
            let ident = input.call(Ident::parse_any)?;
            LitStr::new(&ident.unraw().to_string(), ident.span())
        } else {
            return Err(input.error("expected a tag as key = \"value\", the key a word or a string literal"));
        };
        if input.parse::<Token![=]>().is_err() || !has_value(input) {
            let text = format!("tag {:?} has no value: write it as key = \"value\"", key.value());
            return Err(Error::new(key.span(), text));
        }
        let key = Expr::Lit(ExprLit { attrs: Vec::new(), lit: Lit::Str(key) });
        let value = parse_expr(input)?;
        Ok(Self { key, value })
    }
}
