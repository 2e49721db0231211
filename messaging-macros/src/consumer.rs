//! `#[consumer]`: an impl block whose `#[on_event]` methods are the handlers of a group.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Attribute, Error, Expr, Ident, ImplItem, ImplItemFn, ItemImpl, ReceiverKind, Result, parse_quote, spanned::Spanned,
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

/// Options that are methods of a route.
pub(crate) const ROUTE_OPTIONS: &[&str] = &["failure_policy", "spawned"];

/// What an impl block and the attributes in it say.
pub(crate) struct Consumer {
    group: Expr,
    topics: Vec<Expr>,
    options: TokenStream,
    methods: Vec<Method>,
}

struct Method {
    conditions: Vec<Attribute>,
    matches: Matches,
    options: TokenStream,
    signature: HandlerSignature,
}

enum Matches {
    Event(Expr),
    Message(Expr),
}

impl Consumer {
    /// Reads the block, and takes the macro's attributes off its methods before anything can be wrong.
    pub(crate) fn parse(mut arguments: Arguments, block: &mut ItemImpl) -> Result<Self> {
        let handlers: Vec<_> = block.items.iter_mut().filter_map(take_attributes).collect();
        if let Some((path, _)) = &block.trait_ {
            let message = "`#[consumer]` stands on an `impl` block of the type itself, not of a trait";
            return Err(Error::new(path.span(), message));
        }
        if handlers.is_empty() {
            let message = r#"a consumer needs a method with `#[on_event("…")]`"#;
            return Err(Error::new(block.self_ty.span(), message));
        }
        let methods = handlers.iter().map(|(ours, method)| Method::parse(ours, method)).collect::<Result<Vec<_>>>()?;
        check_twice(&methods)?;
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
        let options = arguments.calls(ROUTER_OPTIONS);
        arguments.finish(&[&["topics"], ROUTER_OPTIONS])?;
        Ok(Self { group, topics, options, methods })
    }

    /// What stands beside the block: the router, and one plain function per method for it to call.
    pub(crate) fn expand(self, block: &ItemImpl) -> TokenStream {
        let Self { group, topics, options, methods } = self;
        let mut generics = block.generics.clone();
        generics
            .make_where_clause()
            .predicates
            .push(parse_quote!(Self: ::core::marker::Send + ::core::marker::Sync + 'static));
        let (impl_generics, _, bounds) = generics.split_for_impl();
        let class = &block.self_ty;
        let handlers = methods.iter().map(Method::handler);
        let routes = methods.iter().map(Method::route);
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
                        #(.topic(::messaging::Name::from_static(#topics)))* #options;
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
    fn parse(ours: &[Attribute], method: &ImplItemFn) -> Result<Self> {
        let [attribute] = ours else {
            let message = "a method handles one thing; let two methods call a third";
            return Err(Error::new(method.sig.ident.span(), message));
        };
        let mut arguments = Arguments::of(attribute)?;
        let (matches, own) = if is(attribute, "on_event") {
            let event = arguments.positional(r#"which event? `#[on_event("orders.created")]`"#)?;
            (Matches::Event(name("event name", event)?), &[] as &[&str])
        } else {
            let topic = arguments.required("topic", r#"which topic? `#[on_message(topic = "orders")]`"#)?;
            (Matches::Message(name("topic", topic)?), &["topic"] as &[&str])
        };
        let options = arguments.calls(ROUTE_OPTIONS);
        arguments.finish(&[own, ROUTE_OPTIONS])?;
        match method.sig.receiver() {
            None => {
                let message = "a handler of a consumer takes `&self`; others are `#[message_handler]`s";
                return Err(Error::new(method.sig.ident.span(), message));
            }
            Some(receiver) if !matches!(receiver.kind, ReceiverKind::Reference(_, _, None)) => {
                return Err(Error::new(receiver.span(), "handlers run at once and share the value: take `&self`"));
            }
            Some(_) => {}
        }
        let conditions = conditions(&method.attrs).cloned().collect();
        Ok(Self { conditions, matches, options, signature: HandlerSignature::parse(&method.sig, 1)? })
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
        let Self { conditions, options, signature, .. } = self;
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
            let router = router.route(#route #options);
        }
    }
}

/// The attributes of a method that are the macro's, with the method, if there are any.
fn take_attributes(item: &mut ImplItem) -> Option<(Vec<Attribute>, &ImplItemFn)> {
    let ImplItem::Fn(method) = item else { return None };
    let ours = |attribute: &Attribute| is(attribute, "on_event") || is(attribute, "on_message");
    let (ours, others) = std::mem::take(&mut method.attrs).into_iter().partition::<Vec<_>, _>(ours);
    method.attrs = others;
    (!ours.is_empty()).then_some((ours, &*method))
}

fn is(attribute: &Attribute, name: &str) -> bool {
    attribute.path().segments.last().is_some_and(|segment| segment.ident == name)
}

/// Finds two handlers for one thing where both names are literals; the router finds the others when it is run.
fn check_twice(methods: &[Method]) -> Result<()> {
    let handled = |method: &Method| match &method.matches {
        Matches::Event(name) => literal(name).map(|text| ("event", text.value(), text.span())),
        Matches::Message(topic) => literal(topic).map(|text| ("topic", text.value(), text.span())),
    };
    // Of two with conditions, at most one may exist.
    let certain: Vec<&Method> = methods.iter().filter(|method| method.conditions.is_empty()).collect();
    for (index, method) in certain.iter().enumerate() {
        let Some((kind, name, span)) = handled(method) else { continue };
        let same = |other: &&&Method| handled(other).is_some_and(|(k, n, _)| k == kind && n == name);
        if let Some(first) = certain[..index].iter().find(same) {
            let message = format!("{kind} {name:?} is handled by `{}` already", first.signature.ident);
            return Err(Error::new(span, message));
        }
    }
    Ok(())
}
