//! `#[consumer]`: an impl block whose `#[on_event]` methods are the handlers of a group.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Attribute, Error, Expr, FnArg, Ident, ImplItem, ItemImpl, ReceiverKind, Result, Signature, parse_quote,
    spanned::Spanned,
};

use crate::{
    arguments::{Arguments, literal, name},
    signature::{HandlerSignature, conditions},
};

const EXAMPLE: &str = r#"`#[consumer("notifications", topics = ["order-events"])]`"#;

/// Options that are methods of the router.
const ROUTER_OPTIONS: &[&str] = &[
    "concurrency",
    "failure_policy",
    "on_unhandled",
    "start",
    "max_in_flight",
    "max_in_flight_bytes",
    "max_span",
    "revoke_drain",
];

/// The impl block, without the attributes that were for the macro, and what they said.
pub(crate) struct Consumer {
    group: Expr,
    topics: Vec<Expr>,
    options: Vec<(Ident, Expr)>,
    methods: Vec<Method>,
}

struct Method {
    conditions: Vec<Attribute>,
    matches: Matches,
    route_options: RouteOptions,
    signature: HandlerSignature,
}

enum Matches {
    Event(Expr),
    Message(Expr),
}

impl Consumer {
    /// Reads the block and takes the macro's attributes off its methods, also if it answers an error.
    pub(crate) fn parse(arguments: Arguments, block: &mut ItemImpl) -> Result<Self> {
        let mut errors = Errors::default();
        let methods: Vec<Method> =
            block.items.iter_mut().filter_map(|item| errors.keep(Method::parse(item))).flatten().collect();
        errors.keep(check_block(block, &methods));
        errors.keep(check_twice(&methods));
        let consumer = errors.keep(Self::header(arguments, methods));
        errors.or(consumer)
    }

    fn header(mut arguments: Arguments, methods: Vec<Method>) -> Result<Self> {
        let group = arguments.positional(&format!("the group is missing: {EXAMPLE}"))?;
        let group = name("group", group)?;
        let topics = match arguments.optional("topics")? {
            Some(Expr::Array(topics)) => {
                topics.elems.into_iter().map(|topic| name("topic", topic)).collect::<Result<_>>()?
            }
            Some(other) => return Err(Error::new(other.span(), r#"expected `topics = ["…"]`"#)),
            None => Vec::new(),
        };
        if topics.is_empty() && methods.iter().any(|method| matches!(method.matches, Matches::Event(_))) {
            return Err(Error::new(arguments.span(), format!("`topics = [\"…\"]` is missing: {EXAMPLE}")));
        }
        let options = arguments.options(ROUTER_OPTIONS)?;
        arguments.finish(&[&["topics"], ROUTER_OPTIONS])?;
        Ok(Self { group, topics, options, methods })
    }

    /// What stands beside the block: the router, and one plain function per method for it to call.
    pub(crate) fn expand(self, block: &ItemImpl) -> TokenStream {
        let Self { group, topics, options, methods } = self;
        let mut generics = block.generics.clone();
        generics.make_where_clause().predicates.push(parse_quote!(Self: Send + Sync + 'static));
        let (impl_generics, _, bounds) = generics.split_for_impl();
        let class = &block.self_ty;
        let handlers = methods.iter().map(Method::handler);
        let routes = methods.iter().map(Method::route);
        let options = options.iter().map(|(option, value)| quote!(.#option(#value)));
        quote! {
            #[automatically_derived]
            impl #impl_generics #class #bounds {
                /// The router of this class's handlers.
                #[allow(dead_code)]
                pub fn router(self) -> ::messaging::Router {
                    Self::shared_router(::std::sync::Arc::new(self))
                }

                /// The router of this class's handlers, of a value that is used elsewhere too.
                #[allow(dead_code)]
                pub fn shared_router(self: ::std::sync::Arc<Self>) -> ::messaging::Router {
                    let router = ::messaging::Router::<Self>::new(::messaging::Name::from_static(#group))
                        #(.topic(::messaging::Name::from_static(#topics)))* #(#options)*;
                    #(#routes)*
                    router.with_shared_state(self)
                }

                #(#handlers)*
            }

            #[automatically_derived]
            impl #impl_generics ::messaging::IntoRouter for #class #bounds {
                fn into_router(self) -> ::messaging::Router {
                    Self::router(self)
                }
            }
        }
    }
}

impl Method {
    /// The handler that an item is, if it is one.
    fn parse(item: &mut ImplItem) -> Result<Option<Self>> {
        let ImplItem::Fn(method) = item else { return Ok(None) };
        let (mut ours, others) = std::mem::take(&mut method.attrs).into_iter().partition::<Vec<_>, _>(is_ours);
        method.attrs = others;
        let Some(attribute) = ours.pop() else { return Ok(None) };
        if ours.pop().is_some() {
            let message = "a method handles one thing; let two methods call a third";
            return Err(Error::new(attribute.span(), message));
        }
        let mut arguments = Arguments::of(&attribute)?;
        let (matches, own) = if is(&attribute, "on_event") {
            let event = arguments.positional(r#"which event? `#[on_event("orders.created")]`"#)?;
            (Matches::Event(name("event name", event)?), &[] as &[&str])
        } else {
            let topic = arguments.required("topic", r#"which topic? `#[on_message(topic = "orders")]`"#)?;
            (Matches::Message(name("topic", topic)?), &["topic"] as &[&str])
        };
        let route_options = RouteOptions::parse(&mut arguments)?;
        arguments.finish(&[own, RouteOptions::NAMES])?;
        check_receiver(&method.sig)?;
        Ok(Some(Self {
            conditions: conditions(&method.attrs).cloned().collect(),
            matches,
            route_options,
            signature: HandlerSignature::parse(&method.sig, 1)?,
        }))
    }

    fn handler_ident(&self) -> Ident {
        format_ident!("__handle_{}", self.signature.ident)
    }

    /// A plain function that calls the method: one that borrows a resource can be named for any lifetime, a closure
    /// cannot.
    fn handler(&self) -> TokenStream {
        let Self { conditions, signature, .. } = self;
        let HandlerSignature { ident, arguments, resource, output } = signature;
        let handler = self.handler_ident();
        let names: Vec<Ident> = (0..arguments.len()).map(|index| format_ident!("argument_{index}")).collect();
        let (resource, resource_name) = match resource {
            Some(resource) => (quote!(resource: &mut #resource), quote!(resource)),
            None => (TokenStream::new(), TokenStream::new()),
        };
        quote! {
            #(#conditions)*
            #[doc(hidden)]
            async fn #handler(this: ::messaging::Shared<Self>, #(#names: #arguments,)* #resource) #output {
                Self::#ident(&this, #(#names,)* #resource_name).await
            }
        }
    }

    fn route(&self) -> TokenStream {
        let Self { conditions, route_options, signature, .. } = self;
        let handler = self.handler_ident();
        let function = quote_spanned!(signature.ident.span()=> Self::#handler);
        let target = match &self.matches {
            Matches::Event(name) => quote!(event(#name)),
            Matches::Message(topic) => quote!(message(#topic)),
        };
        let target = quote!(::messaging::__private::checked::Target::#target);
        let before = [parse_quote!(::messaging::Shared<Self>)];
        let route = signature.route(&parse_quote!(Self), &before, &target, &function);
        quote! {
            #(#conditions)*
            let router = router.route(#route #route_options);
        }
    }
}

/// Options that are methods of a route.
pub(crate) struct RouteOptions {
    failure_policy: Option<Expr>,
    spawned: Option<Ident>,
}

impl RouteOptions {
    pub(crate) const NAMES: &[&str] = &["failure_policy", "spawned"];

    pub(crate) fn parse(arguments: &mut Arguments) -> Result<Self> {
        Ok(Self { failure_policy: arguments.optional("failure_policy")?, spawned: arguments.flag("spawned")? })
    }
}

impl quote::ToTokens for RouteOptions {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        if let Some(policy) = &self.failure_policy {
            tokens.extend(quote!(.failure_policy(#policy)));
        }
        if let Some(spawned) = &self.spawned {
            tokens.extend(quote!(.#spawned()));
        }
    }
}

fn is(attribute: &Attribute, name: &str) -> bool {
    attribute.path().segments.last().is_some_and(|segment| segment.ident == name)
}

fn is_ours(attribute: &Attribute) -> bool {
    is(attribute, "on_event") || is(attribute, "on_message")
}

fn check_receiver(signature: &Signature) -> Result<()> {
    match signature.inputs.first() {
        Some(FnArg::Receiver(receiver)) => match &receiver.kind {
            ReceiverKind::Reference(_, _, None) => Ok(()),
            _ => Err(Error::new(receiver.span(), "handlers run at once and share the value: take `&self`")),
        },
        _ => Err(Error::new(
            signature.ident.span(),
            "a handler of a consumer takes `&self`; others are `#[message_handler]`s",
        )),
    }
}

fn check_block(block: &ItemImpl, methods: &[Method]) -> Result<()> {
    if let Some((path, _)) = &block.trait_ {
        return Err(Error::new(
            path.span(),
            "`#[consumer]` stands on an `impl` block of the type itself, not of a trait",
        ));
    }
    if methods.is_empty() {
        return Err(Error::new(block.self_ty.span(), r#"a consumer needs a method with `#[on_event("…")]`"#));
    }
    Ok(())
}

fn check_twice(methods: &[Method]) -> Result<()> {
    let handled = |method: &Method| {
        let (kind, name) = match &method.matches {
            Matches::Event(name) => ("event", name),
            Matches::Message(topic) => ("topic", topic),
        };
        literal(name).map(|text| (kind, text.value(), text.span()))
    };
    let mut errors = Errors::default();
    for (index, method) in methods.iter().enumerate() {
        let Some((kind, name, span)) = handled(method) else { continue };
        let first = methods[..index].iter().find(|other| {
            // Of two with conditions, at most one may exist.
            other.conditions.is_empty()
                && method.conditions.is_empty()
                && handled(other).is_some_and(|(other_kind, other, _)| other_kind == kind && other == name)
        });
        if let Some(first) = first {
            let message = format!("{kind} {name:?} is handled by `{}` already", first.signature.ident);
            errors.keep::<()>(Err(Error::new(span, message)));
        }
    }
    errors.or(Some(()))
}

/// All that is wrong, to be said at once.
#[derive(Default)]
struct Errors(Option<Error>);

impl Errors {
    fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                match &mut self.0 {
                    Some(errors) => errors.combine(error),
                    None => self.0 = Some(error),
                }
                None
            }
        }
    }

    fn or<T>(self, value: Option<T>) -> Result<T> {
        match (self.0, value) {
            (None, Some(value)) => Ok(value),
            (Some(errors), _) => Err(errors),
            (None, None) => Err(Error::new(proc_macro2::Span::call_site(), "nothing was read")),
        }
    }
}
