//! `#[derive(EventData)]`: what kind of event a type is.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{
    Data, DeriveInput, Error, Expr, ExprLit, Fields, Generics, Ident, Index, Lit, Member, Result, parse_quote,
    spanned::Spanned,
};

use crate::arguments::{Arguments, name};

const EXAMPLE: &str = r#"`#[event(name = "orders.created", topic = "order-events", key = order_id)]`"#;

/// The type and what its `#[event(…)]` says.
pub(crate) struct EventData {
    ident: Ident,
    generics: Generics,
    name: Expr,
    topic: Expr,
    /// The path of fields that leads to the key.
    key: Option<Vec<Member>>,
}

impl EventData {
    pub(crate) fn parse(input: DeriveInput) -> Result<Self> {
        let mut attributes = input.attrs.iter().filter(|attribute| attribute.path().is_ident("event"));
        let Some(attribute) = attributes.next() else {
            return Err(Error::new(input.ident.span(), format!("`EventData` needs {EXAMPLE} on `{}`", input.ident)));
        };
        if let Some(second) = attributes.next() {
            return Err(Error::new(second.span(), "`#[event(…)]` is given twice"));
        }
        let mut arguments = Arguments::of(attribute)?;
        let missing = |what| format!("`{what} = \"…\"` is missing: {EXAMPLE}");
        let name = name("event name", arguments.required("name", &missing("name"))?)?;
        let topic = crate::arguments::name("topic", arguments.required("topic", &missing("topic"))?)?;
        let key = arguments.optional("key")?.map(|key| key_path(&key, &input)).transpose()?;
        arguments.finish(&[&["name", "topic", "key"]])?;
        Ok(Self { ident: input.ident, generics: input.generics, name, topic, key })
    }

    pub(crate) fn expand(mut self) -> TokenStream {
        if self.generics.type_params().next().is_some() {
            let bounds = self.generics.make_where_clause();
            bounds.predicates.push(parse_quote!(Self: ::messaging::__private::serde::Serialize));
        }
        let Self { ident, generics, name, topic, key } = self;
        let (impl_generics, type_generics, bounds) = generics.split_for_impl();
        let write_key = match key {
            Some(path) => {
                let span = path.last().map_or_else(|| ident.span(), Spanned::span);
                quote_spanned!(span=> ::messaging::EventKey::write_key(&self.#(#path).*, key))
            }
            None => quote!({
                let _ = key;
                false
            }),
        };
        quote! {
            #[automatically_derived]
            impl #impl_generics ::messaging::EventData for #ident #type_generics #bounds {
                const NAME: &'static str = #name;
                const TOPIC: &'static str = #topic;

                fn write_key(&self, key: &mut ::messaging::__private::BytesMut) -> bool {
                    #write_key
                }
            }
        }
    }
}

/// The fields that `key = a.b` names, the first of which the type must have.
fn key_path(key: &Expr, input: &DeriveInput) -> Result<Vec<Member>> {
    let mut path = Vec::new();
    collect(key, &mut path)?;
    let Data::Struct(data) = &input.data else {
        let hint = "only a struct has a key field; implement `messaging::EventData` by hand";
        return Err(Error::new(key.span(), hint));
    };
    let members: Vec<Member> = data.fields.members().collect();
    match path.first() {
        Some(first) if !members.contains(first) => {
            let text = |member: &Member| match member {
                Member::Named(name) => format!("`{name}`"),
                Member::Unnamed(index) => format!("`{}`", index.index),
            };
            let known: Vec<String> = members.iter().map(text).collect();
            let known = if matches!(data.fields, Fields::Unit) { "none".to_owned() } else { known.join(", ") };
            let message = format!("`{}` has no field {}; its fields are: {known}", input.ident, text(first));
            Err(Error::new(first.span(), message))
        }
        _ => Ok(path),
    }
}

fn collect(key: &Expr, path: &mut Vec<Member>) -> Result<()> {
    match key {
        Expr::Path(field) if field.path.get_ident().is_some() => {
            path.extend(field.path.get_ident().cloned().map(Member::Named));
        }
        Expr::Lit(ExprLit { lit: Lit::Int(index), .. }) => {
            path.push(Member::Unnamed(Index { index: index.base10_parse()?, span: index.span() }));
        }
        Expr::Field(field) => {
            collect(&field.base, path)?;
            path.push(field.member.clone());
        }
        other => return Err(Error::new(other.span(), "a key is a field: `key = order_id` or `key = order.id`")),
    }
    Ok(())
}
