//! `#[event]`: publishes what a function returns, if it succeeds.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{
    Error, Expr, FnArg, GenericArgument, Ident, Index, ItemFn, Member, Pat, PathArguments, Result, ReturnType,
    Signature, Type, spanned::Spanned,
};

use crate::arguments::{Arguments, literal, name};

const EXAMPLE: &str = r#"`#[event("orders.created", topic = "order-events", key_field = "order_id")]`"#;

pub(crate) struct Event {
    name: Expr,
    topic: Expr,
    /// The path of fields of the payload that leads to the key.
    key: Option<TokenStream>,
    /// What the event is published with.
    sink: TokenStream,
    /// Where the attribute says that.
    publisher: Option<Span>,
    /// What the function returns.
    output: Type,
    /// What of it is published.
    payload: Type,
    /// Whether that is the second of a pair.
    paired: bool,
}

impl Event {
    pub(crate) fn parse(mut arguments: Arguments, function: &ItemFn) -> Result<Self> {
        let signature = &function.sig;
        if signature.asyncness.is_none() {
            let message = "`#[event]` publishes, which is asynchronous: write `async fn`";
            return Err(Error::new(signature.fn_token.span, message));
        }
        let event = arguments.positional(&format!("which event? {EXAMPLE}"))?;
        let event = name("event name", event)?;
        let topic = arguments.required("topic", &format!("`topic = \"…\"` is missing: {EXAMPLE}"))?;
        let topic = name("topic", topic)?;
        let key = arguments.optional("key_field")?.map(|key| key_path(&key)).transpose()?;
        let publisher = arguments.optional("publisher")?;
        arguments.finish(&[&["topic", "key_field", "publisher"]])?;
        let (output, payload, paired) = returned(signature)?;
        let (sink, publisher) = match publisher {
            Some(publisher) => (quote!(#publisher), Some(publisher.span())),
            None => (find_sink(signature)?, None),
        };
        Ok(Self { name: event, topic, key, sink, publisher, output, payload, paired })
    }

    /// The function with the publishing after its body.
    pub(crate) fn expand(self, function: &ItemFn) -> TokenStream {
        let Self { name, topic, key, sink, publisher, output, payload, paired } = self;
        let ItemFn { attrs, vis, sig, block, .. } = function;
        // Names that the function's own cannot meet, each where an error about it belongs.
        let (key_place, payload_place) = (key.as_ref().map_or(payload.span(), Spanned::span), payload.span());
        let (returned, error) = (Ident::new("__returned", output.span()), Ident::new("__error", output.span()));
        let (payload, event) = (Ident::new("__payload", key_place), Ident::new("__event", payload_place));
        let pattern = if paired { quote!((_, #payload)) } else { quote!(#payload) };
        let key = key.map(|path| quote_spanned!(key_place=> .keyed_by(&#payload.#path)));
        let place = publisher.unwrap_or(payload_place);
        let published = quote_spanned!(place=> ::messaging::EventSink::publish_event(#sink, #event).await);
        let failure = quote_spanned!(output.span()=> ::core::convert::From::<::messaging::Error>::from(#error));
        quote! {
            #(#attrs)*
            #vis #sig {
                let #returned: #output = async {
                    // Tells the type of the block, which `?` needs to know.
                    #[allow(unreachable_code, clippy::diverging_sub_expression, clippy::empty_loop)]
                    if false {
                        let #returned: #output = loop {};
                        return #returned;
                    }
                    #block
                }
                .await;
                if let ::core::result::Result::Ok(#pattern) = &#returned {
                    let #event = ::messaging::Event::named(
                        ::messaging::Name::from_static(#name),
                        ::messaging::Name::from_static(#topic),
                        #payload,
                    ) #key;
                    if let ::core::result::Result::Err(#error) = #published {
                        return ::core::result::Result::Err(#failure);
                    }
                }
                #returned
            }
        }
    }
}

/// The fields that `key_field = "a.b"` names, by the literal's place.
fn key_path(key: &Expr) -> Result<TokenStream> {
    let Some(text) = literal(key) else {
        return Err(Error::new(key.span(), r#"expected the name of a field: `key_field = "order_id"`"#));
    };
    let field = |field: &str| {
        let member = syn::parse_str::<Member>(field).map_err(|_| {
            let message = format!("{:?} is no field; write `key_field = \"order_id\"` or `\"order.id\"`", text.value());
            Error::new(text.span(), message)
        })?;
        Ok(match member {
            Member::Named(name) => Ident::new(&name.to_string(), text.span()).into_token_stream(),
            Member::Unnamed(index) => Index { span: text.span(), ..index }.into_token_stream(),
        })
    };
    let path = text.value().split('.').map(field).collect::<Result<Vec<_>>>()?;
    Ok(quote_spanned!(text.span()=> #(#path).*))
}

/// What the function returns, what of that is published, and whether that is the second of a pair.
fn returned(signature: &Signature) -> Result<(Type, Type, bool)> {
    const RULE: &str =
        "`#[event]` publishes what the function returns: `Result<E>`, or `Result<(R, E)>` to publish `E` only";
    let ReturnType::Type(_, output) = &signature.output else {
        return Err(Error::new(signature.ident.span(), RULE));
    };
    let success = match &**output {
        Type::Path(path) => path.path.segments.last().filter(|segment| segment.ident.to_string().ends_with("Result")),
        _ => None,
    };
    let success = success.and_then(|segment| match &segment.arguments {
        PathArguments::AngleBracketed(generics) => generics.args.first(),
        _ => None,
    });
    match success {
        Some(GenericArgument::Type(Type::Tuple(tuple))) => match tuple.elems.iter().collect::<Vec<_>>()[..] {
            [_, payload] => Ok((Type::clone(output), payload.clone(), true)),
            _ => Err(Error::new(tuple.span(), RULE)),
        },
        Some(GenericArgument::Type(payload)) => Ok((Type::clone(output), payload.clone(), false)),
        _ => Err(Error::new(output.span(), RULE)),
    }
}

/// An argument that publishes, or else `self`.
fn find_sink(signature: &Signature) -> Result<TokenStream> {
    if let Some(sink) = signature.inputs.iter().find_map(sink_argument) {
        return Ok(sink);
    }
    let span = signature.ident.span();
    match signature.receiver() {
        // A reference to `Self` by whatever the receiver is: `&self`, `&mut self`, `self: Arc<Self>`, `self`.
        Some(_) => Ok(quote_spanned!(span=> <Self as ::messaging::HasMessaging>::messaging(&self))),
        None => Err(Error::new(
            span,
            "`#[event]` finds nothing to publish with: take `&Messaging` or a transaction (`&mut Tx`) as an argument, or say `publisher = …` in the attribute",
        )),
    }
}

/// The argument as what publishes, if its type is called so.
fn sink_argument(argument: &FnArg) -> Option<TokenStream> {
    let FnArg::Typed(argument) = argument else { return None };
    let Pat::Ident(pattern) = &*argument.pat else { return None };
    let ident: &Ident = &pattern.ident;
    let (target, sink) = match &*argument.ty {
        Type::Reference(reference) if reference.mutability.is_some() => (&*reference.elem, quote!(&mut *#ident)),
        Type::Reference(reference) => (&*reference.elem, quote!(&*#ident)),
        owned => (owned, quote!(&#ident)),
    };
    let Type::Path(path) = target else { return None };
    let name = &path.path.segments.last()?.ident;
    (name == "Messaging" || name == "Tx").then_some(sink)
}
