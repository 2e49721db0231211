//! What stands in an attribute's parentheses: at most one value without a name, then `name = value`, each known and
//! given once.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{
    Attribute, Error, Expr, ExprLit, Ident, Lit, LitStr, Meta, Result, Token, Type,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
    spanned::Spanned,
};

pub(crate) struct Arguments {
    positional: Option<Expr>,
    named: Vec<(Ident, Option<Expr>)>,
    /// Where it is said that something is missing.
    span: Span,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut arguments = Self { positional: None, named: Vec::new(), span: Span::call_site() };
        for argument in Punctuated::<Argument, Token![,]>::parse_terminated(input)? {
            match argument {
                Argument::Named(name, None) if arguments.is_empty() => {
                    arguments.positional = Some(syn::parse_quote!(#name));
                }
                Argument::Named(name, _) if arguments.named.iter().any(|(known, _)| *known == name) => {
                    return Err(Error::new(name.span(), format!("`{name}` is given twice")));
                }
                Argument::Named(name, value) => arguments.named.push((name, value)),
                Argument::Positional(value) if arguments.positional.is_some() || !arguments.named.is_empty() => {
                    return Err(Error::new(value.span(), "expected `name = value`"));
                }
                Argument::Positional(value) => arguments.positional = Some(value),
            }
        }
        Ok(arguments)
    }
}

impl Arguments {
    /// The arguments of an attribute that no macro of its own has parsed.
    pub(crate) fn of(attribute: &Attribute) -> Result<Self> {
        let arguments = match &attribute.meta {
            Meta::Path(_) => Self { positional: None, named: Vec::new(), span: Span::call_site() },
            _ => attribute.parse_args()?,
        };
        Ok(Self { span: attribute.path().span(), ..arguments })
    }

    /// Where the attribute stands.
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    /// The value without a name.
    pub(crate) fn positional(&mut self, missing: &str) -> Result<Expr> {
        self.positional.take().ok_or_else(|| Error::new(self.span, missing))
    }

    /// The value of this name, if it is given.
    pub(crate) fn optional(&mut self, name: &str) -> Result<Option<Expr>> {
        match self.named.iter().position(|(known, _)| known == name).map(|index| self.named.remove(index)) {
            Some((name, None)) => Err(Error::new(name.span(), format!("expected `{name} = …`"))),
            found => Ok(found.and_then(|(_, value)| value)),
        }
    }

    /// The value of this name.
    pub(crate) fn required(&mut self, name: &str, missing: &str) -> Result<Expr> {
        self.optional(name)?.ok_or_else(|| Error::new(self.span, missing))
    }

    /// Those of these names that are given, as calls of the methods they are the names of.
    pub(crate) fn calls(&mut self, methods: &[&str]) -> TokenStream {
        let is_call = |name: &Ident| methods.iter().any(|method| name == method);
        let (calls, others): (Vec<_>, _) = self.named.drain(..).partition(|(name, _)| is_call(name));
        self.named = others;
        calls.into_iter().map(|(method, value)| quote!(.#method(#value))).collect()
    }

    /// Refuses what was not taken; `known` is what there is.
    pub(crate) fn finish(self, known: &[&[&str]]) -> Result<()> {
        if let Some(value) = self.positional {
            return Err(Error::new(value.span(), "expected `name = value`"));
        }
        match self.named.first() {
            None => Ok(()),
            Some((name, _)) => {
                let known = known.concat().join("`, `");
                Err(Error::new(name.span(), format!("there is no option `{name}` here; there are `{known}`")))
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.positional.is_none() && self.named.is_empty()
    }
}

enum Argument {
    /// With its value, or a word alone: a flag, or as the first argument a constant.
    Named(Ident, Option<Expr>),
    Positional(Expr),
}

impl Parse for Argument {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let named = input.peek(syn::Ident) && input.peek2(Token![=]) && !input.peek2(Token![==]);
        let last = input.cursor().token_tree().is_some_and(|(_, rest)| rest.eof());
        let alone = input.peek(syn::Ident) && (last || input.peek2(Token![,]));
        if named {
            let name = input.parse()?;
            input.parse::<Token![=]>()?;
            // A type need not read as an expression: `state = Shop<Postgres>`.
            let value = if name == "state" {
                Expr::Verbatim(input.parse::<Type>()?.into_token_stream())
            } else {
                input.parse()?
            };
            return Ok(Self::Named(name, Some(value)));
        }
        if alone {
            return Ok(Self::Named(input.parse()?, None));
        }
        Ok(Self::Positional(input.parse()?))
    }
}

/// A topic, group or event name: a literal that keeps the rule of names, or a constant.
pub(crate) fn name(what: &str, value: Expr) -> Result<Expr> {
    match literal(&value) {
        Some(text) => match name_fault(&text.value()) {
            Some(fault) => Err(Error::new(text.span(), format!("{what} {:?} {fault}", text.value()))),
            None => Ok(value),
        },
        None if matches!(value, Expr::Path(_)) => Ok(value),
        None => Err(Error::new(value.span(), format!("a {what} is a string literal or a constant"))),
    }
}

/// The text of a string literal.
pub(crate) fn literal(value: &Expr) -> Option<&LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text),
        Expr::Group(group) => literal(&group.expr),
        _ => None,
    }
}

/// What is wrong with a name; the rule is that of `messaging::validate_name`.
fn name_fault(text: &str) -> Option<&'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() {
        Some("is empty")
    } else if text.len() > 200 {
        Some("is longer than 200 characters")
    } else if text == "." || text == ".." {
        Some("is reserved")
    } else if !text.chars().all(allowed) {
        Some("may hold only A-Z a-z 0-9 . _ -")
    } else {
        None
    }
}
